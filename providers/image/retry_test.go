package image

import (
	cmp0 "cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

var errRefused = status.Error(codes.Unknown, `failed to resolve reference "r.example.com/app:1": failed to do request: dial tcp: connect: connection refused`)

// TestPullSeries pulls from a registry that is not there against a clock: when it is asked, and what is told.
func TestPullSeries(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		patience time.Duration
		takes    time.Duration // each try
		err      error
		tries    []float64 // seconds after the beginning
		words    []string
	}{
		{"the whole series", 30 * time.Minute, 0, errRefused, []float64{0, 10, 30, 70, 150, 310, 610, 910, 1210, 1510}, []string{"Image cannot be pulled", "It was tried 10 times within 25m10s."}},
		{"the deadline", 60 * time.Second, 0, errRefused, []float64{0, 10, 30}, []string{"connection refused", "3 times within 30s"}},
		{"tries that take their time", 60 * time.Second, 15 * time.Second, errRefused, []float64{0, 25}, []string{"2 times within 40s"}},
		{"no time for another", 10 * time.Second, 0, errRefused, []float64{0}, []string{"ErrImagePull: n1 cannot pull", "The next try would be 10s later, when the pod should be ready already (10s after the first)."}},
		{"no patience", 0, 0, errRefused, []float64{0}, []string{"ErrImagePull"}},
		{"not found", time.Hour, 0, status.Error(codes.NotFound, "r.example.com/app:1: not found"), []float64{0}, []string{"Image not found"}},
		{"denied", time.Hour, 0, status.Error(codes.Unknown, "unexpected status: 403 Forbidden"), []float64{0}, []string{"Denied by the registry"}},
		{"not trusted", time.Hour, 0, status.Error(codes.Unknown, "tls: failed to verify certificate: x509: certificate signed by unknown authority"), []float64{0}, []string{"Registry is not trusted"}},
		{"no room", time.Hour, 0, status.Error(codes.Unknown, "write /x: no space left on device"), []float64{0}, []string{"Disk full"}},
		{"too many requests", 15 * time.Second, 0, status.Error(codes.Unknown, "unexpected status: 429 Too Many Requests"), []float64{0, 10}, []string{"429 Too Many Requests"}},
		{"the registry says 503", 15 * time.Second, 0, status.Error(codes.Unavailable, "unexpected status from HEAD request to https://r.example.com/v2/: 503 Service Unavailable"), []float64{0, 10}, []string{"503"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w, told := telling(tt.patience)
				began := time.Now()
				var tries []float64
				err := brought(t.Context(), nil, w, coming{
					doing: "Pulling", do: "pull", done: "pulled", passes: passes, explain: func(err error) error { return pullError("r.example.com/app:1", "n1", err) },
					bring: func() error {
						tries = append(tries, time.Since(began).Seconds())
						time.Sleep(tt.takes)
						return tt.err
					},
				})
				if diff := cmp.Diff(tt.tries, tries); diff != "" {
					t.Errorf("tries (-want +got):\n%s", diff)
				}
				text := fmt.Sprint(err)
				for _, d := range api.DiagnosticsOf(err, "") {
					text += d.Summary + d.Detail
				}
				for _, word := range tt.words {
					if !strings.Contains(text, word) {
						t.Errorf("%q is missing in %s", word, text)
					}
				}
				checkTold(t, *told, len(tt.tries), status.Convert(tt.err).Message())
			})
		})
	}
}

// checkTold compares the events with the kubelet's: of the last failure no pause follows.
func checkTold(t *testing.T, got []string, tries int, why string) {
	t.Helper()
	var want []string
	for i := range tries {
		want = append(want, `Normal Pulling Pulling image "r.example.com/app:1"`,
			`Warning Failed/ErrImagePull Failed to pull image "r.example.com/app:1": `+why, "Warning Failed Error: ErrImagePull")
		if i < tries-1 {
			want = append(want, `Warning BackOff/ImagePullBackOff Back-off pulling image "r.example.com/app:1"`, "Warning Failed Error: ImagePullBackOff")
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func telling(patience time.Duration) (*providers.Work, *[]string) {
	var told []string
	return &providers.Work{
		Step: &api.Step{Image: &api.ImageWork{Ref: "r.example.com/app:1"}}, Patience: patience,
		Event: func(e api.ObjectEvent) {
			reason := e.Reason
			if e.Waiting != "" {
				reason += "/" + e.Waiting
			}
			told = append(told, fmt.Sprintf("%s %s %s", cmp0.Or(e.Type, corev1.EventTypeNormal), reason, e.Message))
		},
		Rest: func(ctx context.Context, d time.Duration) error {
			select {
			case <-time.After(d):
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		},
	}, &told
}

func TestWaitingFor(t *testing.T) {
	t.Parallel()
	for why, want := range map[string]string{
		"RegistryUnavailable: x is down":        "RegistryUnavailable",
		"SignatureValidationFailed: x":          "SignatureValidationFailed",
		"not found: RegistryUnavailable":        "ErrImagePull",
		"failed to resolve reference x: denied": "ErrImagePull",
	} {
		if got := waitingFor(why); got != want {
			t.Errorf("%q: %s, want %s", why, got, want)
		}
	}
}

// TestPullStops checks that an interrupt ends the pause, and that containerd not answering is left to who keeps the connection.
func TestPullStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, told := telling(time.Hour)
		stopped := errors.New("stopped")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(15*time.Second, func() { cancel(stopped) })
		tries := 0
		how := coming{doing: "Pulling", do: "pull", done: "pulled", passes: passes, explain: func(err error) error { return pullError("x", "n1", err) },
			bring: func() error { tries++; return errRefused }}
		if err := brought(ctx, nil, w, how); !errors.Is(err, stopped) || tries != 2 {
			t.Errorf("%d tries, then %v", tries, err)
		}
		*told = slices.Delete(*told, 0, len(*told))
		how.bring = func() error {
			return status.Error(codes.Unavailable, "connection error: desc = \"transport: error while dialing\"")
		}
		if err := brought(t.Context(), nil, w, how); status.Code(err) != codes.Unavailable {
			t.Errorf("containerd does not answer: %v", err)
		}
	})
}
