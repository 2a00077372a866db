package runtime

import (
	"slices"
	"strings"
	"testing"
	"time"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
)

// What goes and what stays, by what is on a host.
func TestWhatIsLeftBehind(t *testing.T) {
	container := func(uid, name string, attempt uint32, state runtimev1.ContainerState, lineage string) *runtimev1.Container {
		return &runtimev1.Container{
			Id: strings.Join([]string{uid, name, string(rune('0' + attempt))}, "-"), State: state, Metadata: &runtimev1.ContainerMetadata{Name: name, Attempt: attempt},
			Labels: map[string]string{api.LabelLineage: lineage, api.LabelPodUID: uid, api.LabelPodName: "p" + uid, api.LabelPodNamespace: "d"},
		}
	}
	const running, exited, created = runtimev1.ContainerState_CONTAINER_RUNNING, runtimev1.ContainerState_CONTAINER_EXITED, runtimev1.ContainerState_CONTAINER_CREATED
	l := &leftovers{boxes: map[string]bool{"box1": true}, containers: []*runtimev1.Container{
		container("u", "app", 4, running, "ours"), container("u", "app", 3, exited, "ours"), container("u", "app", 2, exited, "ours"),
		container("u", "app", 1, created, "ours"), container("u", "app", 0, running, "ours"), // as never should be: it is not ours to end
		container("u", "side", 1, exited, "ours"), container("u", "side", 0, exited, "ours"), // the last two, none runs
		container("v", "app", 0, exited, "ours"),                                   // another pod's, of the same name
		container("w", "app", 2, exited, ""), container("w", "app", 0, exited, ""), // another's
	}}
	const now = 1_700_000_000
	text := strings.NewReplacer("NOW", "1700000000", "OLD", "1699999399", "NEW", "1699999401", "HOURAGO", "1699996399").Replace(`id 10.244.1.2 box1
id 10.244.1.3 gone` + "\r" + `
id 10.244.1.4 gone2
id fd00::5 gone3
at OLD ` + api.CNILeases + `/10.244.1.2
at OLD ` + api.CNILeases + `/10.244.1.3
at NEW ` + api.CNILeases + `/10.244.1.4
at OLD ` + api.CNILeases + `/fd00::5
at OLD ` + api.CNILeases + `/10.244.1.6
at HOURAGO ` + api.ScratchPrefix + `aaaaaaaaaa
at NEW ` + api.ScratchPrefix + `bbbbbbbbbb
at HOURAGO ` + api.ScratchPrefix + `with a blank
log ` + api.PodLogsDir + `/d_pu_u/app/2.log.20260101-000000.gz
log ` + api.PodLogsDir + `/d_pu_u/app/3.log.20260101-000000
log ` + api.PodLogsDir + `/d_pu_u/app/x.log.y
log ` + api.PodLogsDir + `/d_pw_w/app/0.log.20260101-000000
log ` + api.PodLogsDir + `/other_pod_of/app/0.log.20260101-000000
now NOW
`)
	if err := l.read(text); err != nil {
		t.Fatal(err)
	}
	if l.now.Unix() != now || leaseAge != 600*time.Second || scratchAge != time.Hour {
		t.Fatalf("now is %s", l.now)
	}
	got, pairs := l.decide()
	for _, c := range []struct {
		what      string
		got, want []string
	}{
		{"containers", got.Containers, []string{"u-app-1", "u-app-2"}},
		{"logs", got.Logs, []string{api.PodLogsDir + "/d_pu_u/app/2.log.20260101-000000.gz"}},
		{"leases", got.Leases, []string{"10.244.1.3", "fd00::5"}},
		{"pairs", pairs, []string{"10.244.1.3", "gone", "fd00::5", "gone3"}},
		{"scratch", got.Scratch, []string{api.ScratchPrefix + "aaaaaaaaaa"}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s: %q, want %q", c.what, c.got, c.want)
		}
	}
	if err := l.read("nonsense\n"); err == nil {
		t.Error("nonsense is understood")
	}
}
