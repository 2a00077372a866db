package image

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
	crierrors "k8s.io/cri-api/pkg/errors"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/cri"
	"berth.dev/berth/providers/runtime/life"
)

// coming is how an image comes to its host.
type coming struct {
	doing, do, done string // for people: "Pulling", "pull", "pulled"
	bring           func() error
	explain         func(error) error // for people
	passes          func(error) bool  // whether the same may succeed later
}

// brought brings an image and tells so in the kubelet's words. What may pass is tried again with Kubernetes' pauses (semantics.md 1.10),
// for as long as the step has patience: not when it would be over before the next try.
func brought(ctx context.Context, c *cri.Client, w *providers.Work, how coming) error {
	ref, began := w.Step.Image.Ref, time.Now()
	var pause time.Duration
	for tries := 1; ; tries++ {
		w.Happened(api.ObjectEvent{Reason: "Pulling", Message: fmt.Sprintf("%s image %q", how.doing, ref)})
		try := time.Now()
		err := how.bring()
		if err == nil {
			w.Happened(api.ObjectEvent{Reason: "Pulled", Message: how.pulled(ctx, c, ref, time.Since(try), time.Since(began))})
			return nil
		}
		if ctx.Err() != nil {
			return how.explain(err)
		}
		why := status.Convert(err).Message()
		waiting := waitingFor(why)
		warn(w, "Failed", waiting, fmt.Sprintf("Failed to %s image %q: %s", how.do, ref, why))
		warn(w, "Failed", "", "Error: "+waiting)
		pause = life.NextPause(pause)
		late := time.Since(began)+pause >= w.Patience
		if late || !how.passes(err) {
			return tried(how.explain(err), tries, time.Since(began), late && w.Patience > 0 && how.passes(err), pause, w.Patience)
		}
		warn(w, "BackOff", "ImagePullBackOff", fmt.Sprintf("Back-off pulling image %q", ref))
		warn(w, "Failed", "", "Error: ImagePullBackOff")
		if w.Report != nil {
			w.Report(fmt.Sprintf("ImagePullBackOff: %s; again in %s", lastOf(why), pause))
		}
		if err := w.Rest(ctx, pause); err != nil {
			return err
		}
	}
}

// waitingFor is why the container waits after a pull that failed: a runtime that knows more begins with it, as the kubelet expects.
func waitingFor(why string) string {
	for _, known := range []error{crierrors.ErrRegistryUnavailable, crierrors.ErrSignatureValidationFailed} {
		if strings.HasPrefix(why, known.Error()) {
			return known.Error()
		}
	}
	return "ErrImagePull"
}

// lastOf is the last of a chain of causes, as "503 Service Unavailable": one line has room for no more.
func lastOf(causes string) string {
	if i := strings.LastIndex(causes, ": "); i >= 0 {
		return causes[i+2:]
	}
	return causes
}

func warn(w *providers.Work, reason, waiting, message string) {
	w.Happened(api.ObjectEvent{Type: corev1.EventTypeWarning, Reason: reason, Waiting: waiting, Message: message})
}

// pulled is the kubelet's message, with the time of the last try and that of all with their pauses.
func (how coming) pulled(ctx context.Context, c *cri.Client, ref string, took, all time.Duration) string {
	message := fmt.Sprintf("Successfully %s image %q in %s (%s including waiting).", how.done, ref, took.Round(time.Millisecond), all.Round(time.Millisecond))
	if st, err := c.Images.ImageStatus(ctx, &runtimev1.ImageStatusRequest{Image: &runtimev1.ImageSpec{Image: ref}}); err == nil && st.Image != nil {
		message += fmt.Sprintf(" Image size: %d bytes.", st.Image.Size)
	}
	return message
}

// tried adds to an error for people how often the image was asked for, and that it is too late for another time.
func tried(err error, tries int, took time.Duration, late bool, pause, patience time.Duration) error {
	more := ""
	if tries > 1 {
		more = fmt.Sprintf(" It was tried %d times within %s.", tries, took.Round(time.Second))
	}
	if late {
		more += fmt.Sprintf(" The next try would be %s later, when the pod should be ready already (%s after the first). Apply again to try again.", pause, patience)
	}
	if more == "" {
		return err
	}
	ds := api.DiagnosticsOf(err, "Image cannot be pulled")
	for i := range ds {
		ds[i].Detail += more
	}
	return ds.Err()
}
