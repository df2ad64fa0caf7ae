package kedaclient

import (
	"context"
	"fmt"
	"testing"

	"github.com/kedacore/keda/v2/pkg/scalers"
	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

func TestSpecCarriesTheTriggerIndex(t *testing.T) {
	s := startServer(t)
	for _, index := range []int{0, 3} {
		for _, app := range []string{"known", "never-heard-of"} {
			s.known("known", 4, 4)
			specs := newPush(t, config(s.grpc, app, index)).GetMetricSpecForScaling(context.Background())
			if len(specs) != 1 {
				t.Fatalf("%s: %d specs", app, len(specs))
			}
			external := specs[0].External
			if want := fmt.Sprintf("s%d-maniple-desired", index); external.Metric.Name != want {
				t.Errorf("%s: name %q, want %q", app, external.Metric.Name, want)
			}
			if target := external.Target.AverageValue; target == nil || target.MilliValue() != 1000 {
				t.Errorf("%s: target %v, want 1", app, external.Target)
			}
		}
	}
}

func TestValuesAndActivity(t *testing.T) {
	s := startServer(t)
	pull, err := scalers.NewExternalScaler(config(s.grpc, "shop", 2))
	if err != nil {
		t.Fatal(err)
	}
	push := newPush(t, config(s.grpc, "shop", 2))
	for _, desired := range []int{0, 1, 9, 10, 11, 1000} {
		s.known("shop", desired, 1)
		for _, scaler := range []scalers.Scaler{pull, push} {
			value, active, err := ask(scaler, "s2-maniple-desired")
			if err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf("%d", desired); value != want {
				// KEDA writes whole thousands with a suffix.
				if !(desired == 1000 && value == "1k") {
					t.Errorf("value %q, want %q", value, want)
				}
			}
			if active != (desired > 0) {
				t.Errorf("desired %d: active %v", desired, active)
			}
		}
	}
}

func TestWhatIsNotKnownIsAnError(t *testing.T) {
	s := startServer(t)
	s.put("blind", map[string]any{"unknown": "queue cannot be read"})
	s.put("resting", map[string]any{"paused": "by its owner"})
	for app, want := range map[string]codes.Code{
		"blind":   codes.Unavailable,
		"resting": codes.FailedPrecondition,
		"missing": codes.NotFound,
		"Wrong!":  codes.InvalidArgument,
	} {
		value, active, err := ask(newPush(t, config(s.grpc, app, 0)), "s0-maniple-desired")
		if status.Code(err) != want {
			t.Errorf("%s: %v, want %v", app, err, want)
		}
		if value != "" || active {
			t.Errorf("%s: %q, %v beside an error", app, value, active)
		}
	}
}

// Older versions of KEDA read the integers, newer ones the floats and the integers when the float is 0.
func TestIntegersAndFloatsAgree(t *testing.T) {
	s := startServer(t)
	connection, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	client := pb.NewExternalScalerClient(connection)
	ref := &pb.ScaledObjectRef{
		Name: "shop-http", Namespace: "team-a",
		ScalerMetadata: map[string]string{"app": "shop", "group": "HTTP"},
	}
	specs, err := client.GetMetricSpec(context.Background(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if spec := specs.MetricSpecs[0]; spec.TargetSize != 1 || spec.TargetSizeFloat != 1 {
		t.Errorf("target %d, %f", spec.TargetSize, spec.TargetSizeFloat)
	}
	for _, desired := range []int{0, 7, 1000} {
		s.known("shop", desired, 0)
		request := &pb.GetMetricsRequest{ScaledObjectRef: ref, MetricName: "maniple-desired"}
		values, err := client.GetMetrics(context.Background(), request)
		if err != nil {
			t.Fatal(err)
		}
		if len(values.MetricValues) != 1 {
			t.Fatalf("%d values", len(values.MetricValues))
		}
		value := values.MetricValues[0]
		if value.MetricValue != int64(desired) || value.MetricValueFloat != float64(desired) {
			t.Errorf("desired %d: %d, %f", desired, value.MetricValue, value.MetricValueFloat)
		}
	}
}
