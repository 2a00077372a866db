package main

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/api"
	"berth.dev/berth/executor"
)

func TestFailuresSayWhatStepAndHost(t *testing.T) {
	t.Parallel()
	step := &api.Step{Op: api.OpPodEnsure, Address: api.Address{Kind: api.KindDeployment, Name: "web", Pod: "web-1"}, Node: "a1"}
	for _, c := range []struct {
		name            string
		err             error
		summary, detail string
	}{
		{"plain", errors.New("exit status 1"), "Step failed", "exit status 1"},
		{"disk", errors.New("write /var/lib/x: no space left on device"), "Disk full", "write /var/lib/x: no space left on device. Make room on the host."},
		{"tar", errors.New("tar: f: Cannot write: No space left on device."), "Disk full", "tar: f: Cannot write: No space left on device. Make room on the host."},
		{"said", (api.Diagnostics{{Severity: api.SeverityError, Summary: "Image not found", Detail: "Check it."}}).Err(), "Image not found", "Check it."},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := failures(executor.Outcome{Failed: []executor.StepError{{Step: step, Err: c.err}}})
			want := api.Diagnostics{{
				Severity: api.SeverityError, Summary: c.summary, Detail: c.detail, Address: "deployment.web/web-1", Node: "a1", Step: "pod.ensure deployment.web/web-1",
			}}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
