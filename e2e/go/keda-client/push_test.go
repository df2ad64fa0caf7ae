package kedaclient

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/kedacore/keda/v2/pkg/scalers"
)

// uncleanEnds are what KEDA's client logs when a stream ends otherwise than with OK.
var uncleanEnds = []string{"error running StreamIsActive", "StreamMetricSpec: stream error"}

// settle lets the server see one decision before the next one replaces it.
func settle() { time.Sleep(200 * time.Millisecond) }

func TestPushesAreEdges(t *testing.T) {
	s := startServer(t)
	s.known("shop", 0, 0)
	active := run(t, newPush(t, config(s.grpc, "shop", 0)))
	wantSilence(t, active)

	s.known("shop", 3, 3)
	wantPush(t, active)
	s.known("shop", 9, 5)
	s.put("shop", map[string]any{"unknown": "for a moment"})
	s.known("shop", 9, 9)
	wantSilence(t, active)

	s.known("shop", 0, 9)
	settle()
	s.known("shop", 1, 1)
	wantPush(t, active)
	wantSilence(t, active)
}

func TestPushIsRepeatedUntilSeen(t *testing.T) {
	s := startServer(t)
	s.known("shop", 1, 0)
	active := run(t, newPush(t, config(s.grpc, "shop", 0)))
	for range 3 {
		wantPush(t, active)
	}
	s.known("shop", 1, 1)
	settle()
	select {
	case <-active: // Was under way.
	default:
	}
	wantSilence(t, active)
}

func TestStreamOpenedBeforeTheAppIsKnown(t *testing.T) {
	s := startServer(t)
	active := run(t, newPush(t, config(s.grpc, "late", 0)))
	settle()
	s.known("late", 1, 1)
	wantPush(t, active)
}

func TestRemovedGroupEndsCleanlyAndMayComeBack(t *testing.T) {
	s := startServer(t)
	s.known("shop", 1, 1)
	clientErrors()
	active := run(t, newPush(t, config(s.grpc, "shop", 0)))
	wantPush(t, active)
	s.remove("shop")
	settle()
	s.known("shop", 1, 1)
	wantPush(t, active) // KEDA opens the stream again after 2 s.
	if errors := clientErrors(uncleanEnds...); len(errors) > 0 {
		t.Errorf("not a clean end: %s", errors[0])
	}
}

func TestSpecIsStreamed(t *testing.T) {
	s := startServer(t)
	scaler := newPush(t, config(s.grpc, "shop", 1))
	streaming, ok := scaler.(scalers.MetricSpecStreamer)
	if !ok {
		t.Fatal("this KEDA does not stream specs")
	}
	run(t, scaler)
	select {
	case specs := <-streaming.MetricSpecChan():
		if len(specs) != 1 || specs[0].External.Metric.Name != "s1-maniple-desired" {
			t.Fatalf("%v", specs)
		}
	case <-time.After(hang):
		t.Fatal("no spec")
	}
}

func TestRestartOfTheServer(t *testing.T) {
	s := startServer(t)
	s.known("shop", 1, 1)
	clientErrors()
	active := run(t, newPush(t, config(s.grpc, "shop", 0)))
	wantPush(t, active)
	s.stop()
	if errors := clientErrors("StreamMetricSpec: stream error"); len(errors) > 0 {
		t.Errorf("StreamMetricSpec did not end cleanly: %s", errors[0])
	}
	again := startServer(t, "--grpc-address", "127.0.0.1:"+s.port())
	again.known("shop", 1, 1)
	begin := time.Now()
	wantPush(t, active)
	t.Logf("woken %v after the restart", time.Since(begin).Round(time.Millisecond))
}

func TestTwoThousandStreams(t *testing.T) {
	const count = 2000
	s := startServer(t)
	clientErrors()
	channels := make([]<-chan bool, count)
	for n := range count {
		app := fmt.Sprintf("app-%d", n)
		s.known(app, 0, 0)
		channels[n] = run(t, newPush(t, config(s.grpc, app, 0)))
	}
	pushes := make([]int, count)
	var waiting sync.WaitGroup
	for n := range count {
		waiting.Go(func() {
			select {
			case <-channels[n]:
				pushes[n]++
			case <-time.After(hang):
			}
		})
	}
	begin := time.Now()
	for n := range count {
		s.known(fmt.Sprintf("app-%d", n), 1, 1)
	}
	waiting.Wait()
	t.Logf("%d groups woken in %v", count, time.Since(begin).Round(time.Millisecond))
	for n := range count {
		if pushes[n] != 1 {
			t.Fatalf("app-%d: %d pushes", n, pushes[n])
		}
	}
	s.stop()
	settle()
	if errors := clientErrors(uncleanEnds...); len(errors) > 0 {
		t.Fatalf("%d streams did not end cleanly: %s", len(errors), errors[0])
	}
}

// A connection that reached its age is left without an error, and no wake-up is lost over it.
func TestConnectionAge(t *testing.T) {
	s := startServer(t, "--grpc-connection-age-seconds", "2")
	s.known("shop", 0, 0)
	clientErrors()
	active := run(t, newPush(t, config(s.grpc, "shop", 0)))
	for range 3 {
		// Over an age and KEDA's wait of 2 s: some wake-ups meet a closed stream.
		time.Sleep(1700 * time.Millisecond)
		s.known("shop", 1, 0)
		wantPush(t, active)
		s.known("shop", 0, 1)
	}
	if errors := clientErrors(uncleanEnds...); len(errors) > 0 {
		t.Errorf("not a clean end: %s", errors[0])
	}
}
