package runtime

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/util/intstr"

	"berth.dev/berth/providers"
)

// analyse asks the new pods of a rollout as a probe would, from this host; one bad answer of any of them is a failed run.
func analyse(ctx context.Context, h providers.Host, w *providers.Work) error {
	work := w.Step.Analysis
	if work == nil || work.Analysis == nil || work.Analysis.HTTPGet == nil {
		return fmt.Errorf("step %s of %s carries no request", w.Step.Op, w.Step.Address)
	}
	m, err := open(h)
	if err != nil {
		return err
	}
	return providers.Analyse(ctx, work.Analysis, w.Report, func(ctx context.Context) (string, error) {
		for _, e := range w.Endpoints {
			get := *work.Analysis.HTTPGet
			get.Port = intstr.FromInt32(e.Ports[""])
			got, err := (&keeper{m: m, b: &build{ip: e.IP}}).httpGet(ctx, nil, &get)
			if err != nil {
				return "", err
			}
			if got.failure != "" {
				return "pod " + e.Pod.Pod + ": " + got.failure, nil
			}
		}
		return "", nil
	})
}
