package hcl

import (
	"testing"

	batchv1 "k8s.io/api/batch/v1"

	"berth.dev/berth/api"
)

// Labels and annotations are shown, those of a cronjob's runs and their pods, too.
func TestRefuseSensitive(t *testing.T) {
	for path, refused := range map[string]int{
		"metadata.labels[a]":                                             1,
		"spec.template.metadata.annotations[a]":                          1,
		"spec.jobTemplate.metadata.annotations[a]":                       1,
		"spec.jobTemplate.spec.template.metadata.labels[a]":              1,
		"spec.jobTemplate.spec.template.spec.containers[c].env[E].value": 0,
	} {
		if got := refuseSensitive(&batchv1.CronJob{}, []string{path}, map[string]api.Range{}); len(got) != refused {
			t.Errorf("%s: %v", path, got)
		}
	}
}
