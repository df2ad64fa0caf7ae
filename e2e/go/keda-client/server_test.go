package kedaclient

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hang is longer than anything here takes unless it hangs.
const hang = 60 * time.Second

// server is a running scripted scaler.
type server struct {
	t       *testing.T
	command *exec.Cmd
	exited  chan error
	grpc    string
	control string
}

// startServer starts the scripted scaler on free ports of the loopback; flags come behind the default ones.
func startServer(t *testing.T, flags ...string) *server {
	t.Helper()
	program := os.Getenv("MANIPLE_SCRIPTED_SCALER")
	if program == "" {
		t.Fatal("MANIPLE_SCRIPTED_SCALER is not set; build it with cargo build -p maniple-scaler --example scripted_scaler")
	}
	base := []string{"--admin-address", "127.0.0.1:0", "--log", "warn"}
	if !slices.Contains(flags, "--grpc-address") {
		base = append(base, "--grpc-address", "127.0.0.1:0")
	}
	command := exec.Command(program, append(base, flags...)...)
	command.Stderr = os.Stderr
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, command: command, exited: make(chan error, 1)}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	go func() { s.exited <- command.Wait() }()
	if err != nil {
		t.Fatalf("the scripted scaler did not start: %v", err)
	}
	if _, err := fmt.Sscanf(line, "grpc=%s control=%s", &s.grpc, &s.control); err != nil {
		t.Fatalf("unexpected first line %q: %v", line, err)
	}
	t.Cleanup(func() {
		if s.command.ProcessState == nil {
			_ = s.command.Process.Kill()
		}
	})
	return s
}

// stop ends the server as Kubernetes does and waits for it.
func (s *server) stop() {
	s.t.Helper()
	if err := s.command.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	select {
	case err := <-s.exited:
		if err != nil {
			s.t.Fatalf("the server ended badly: %v", err)
		}
	case <-time.After(hang):
		s.t.Fatal("the server did not stop")
	}
}

// port is the one of the gRPC address.
func (s *server) port() string {
	return s.grpc[strings.LastIndex(s.grpc, ":")+1:]
}

// known writes a decision for the http group of app; observed < 0 means that no count was seen.
func (s *server) known(app string, desired, observed int) {
	s.t.Helper()
	script := map[string]any{"desired": desired}
	if observed >= 0 {
		script["observed"] = observed
	}
	s.put(app, script)
}

func (s *server) put(app string, script map[string]any) {
	s.t.Helper()
	body, err := json.Marshal(script)
	if err != nil {
		s.t.Fatal(err)
	}
	s.request(http.MethodPut, app, bytes.NewReader(body))
}

func (s *server) remove(app string) {
	s.t.Helper()
	s.request(http.MethodDelete, app, nil)
}

func (s *server) request(method, app string, body io.Reader) {
	s.t.Helper()
	url := fmt.Sprintf("http://%s/groups/team-a/%s/http", s.control, app)
	request, err := http.NewRequest(method, url, body)
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusNoContent {
		text, _ := io.ReadAll(response.Body)
		s.t.Fatalf("%s %s: %s %s", method, url, response.Status, text)
	}
}
