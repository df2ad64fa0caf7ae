package kedaclient

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/kedacore/keda/v2/pkg/scalers"
	"github.com/kedacore/keda/v2/pkg/scalers/scalersconfig"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// clientLog collects what KEDA's client logs: the only place where it says how a stream ended.
var clientLog struct {
	sync.Mutex
	lines []string
}

func TestMain(m *testing.M) {
	sink := funcr.New(func(_, line string) {
		clientLog.Lock()
		defer clientLog.Unlock()
		clientLog.lines = append(clientLog.lines, line)
	}, funcr.Options{Verbosity: 0})
	log.SetLogger(logr.New(sink.GetSink()))
	os.Exit(m.Run())
}

// clientErrors returns the lines with one of texts that were logged since the last call.
func clientErrors(texts ...string) []string {
	clientLog.Lock()
	defer clientLog.Unlock()
	var found []string
	for _, line := range clientLog.lines {
		if slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(line, text) }) {
			found = append(found, line)
		}
	}
	clientLog.lines = nil
	return found
}

// config is what KEDA makes of an external-push trigger for the http group of app.
func config(address, app string, triggerIndex int) *scalersconfig.ScalerConfig {
	return &scalersconfig.ScalerConfig{
		ScalableObjectName:      app + "-http",
		ScalableObjectNamespace: "team-a",
		ScalableObjectType:      "ScaledObject",
		TriggerIndex:            triggerIndex,
		TriggerMetadata: map[string]string{
			"scalerAddress": address,
			"app":           app,
			"group":         "http",
			"noteFromEnv":   "NOTE",
		},
		ResolvedEnv: map[string]string{"NOTE": "a value of the scale target"},
		AuthParams:  map[string]string{},
	}
}

func newPush(t *testing.T, config *scalersconfig.ScalerConfig) scalers.PushScaler {
	t.Helper()
	scaler, err := scalers.NewExternalPushScaler(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = scaler.Close(context.Background()) })
	return scaler
}

// run starts the streams of a push scaler as KEDA does and ends them with the test.
func run(t *testing.T, scaler scalers.PushScaler) <-chan bool {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	active := make(chan bool)
	done := make(chan struct{})
	go func() {
		defer close(done)
		scaler.Run(ctx, active)
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(hang):
			t.Error("KEDA's client did not stop")
		}
	})
	return active
}

// wantPush waits for one push.
func wantPush(t *testing.T, active <-chan bool) {
	t.Helper()
	select {
	case value, open := <-active:
		if !open || !value {
			t.Fatalf("push: %v, open: %v", value, open)
		}
	case <-time.After(hang):
		t.Fatal("no push")
	}
}

// wantSilence fails when a push comes within the time that the next repetition would take.
func wantSilence(t *testing.T, active <-chan bool) {
	t.Helper()
	select {
	case value := <-active:
		t.Fatalf("unexpected push: %v", value)
	case <-time.After(3 * time.Second):
	}
}

// ask returns value and activity as KEDA's poll loop reads them.
func ask(scaler scalers.Scaler, metric string) (string, bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	values, active, err := scaler.GetMetricsAndActivity(ctx, metric)
	if err != nil {
		return "", false, err
	}
	if len(values) != 1 {
		return "", false, fmt.Errorf("%d values", len(values))
	}
	return values[0].Value.String(), active, nil
}
