package runtime

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	text := strings.NewReplacer("NOW", "1700000000", "OLD", "1699999399", "NEW", "1699999401", "HOURAGO", "1699996399").Replace(`now NOW
id 10.244.1.2 box1
id 10.244.1.3 gone
id 10.244.1.4 gone2
id fd00::5 gone3
at OLD ` + api.CNILeases + `/10.244.1.2
at OLD ` + api.CNILeases + `/10.244.1.3
at NEW ` + api.CNILeases + `/10.244.1.4
at OLD ` + api.CNILeases + `/fd00::5
at OLD ` + api.CNILeases + `/10.244.1.6
at HOURAGO ` + api.ScratchPrefix + `aaaaaaaaaa
at NEW ` + api.ScratchPrefix + `bbbbbbbbbb
logs
` + strings.Join([]string{
		api.PodLogsDir + "/d_pu_u/app/2.log.20260101-000000.gz", api.PodLogsDir + "/d_pu_u/app/3.log.20260101-000000", api.PodLogsDir + "/d_pu_u/app/x.log.y",
		api.PodLogsDir + "/d_pu_u/app/0.log.of\nmine", api.PodLogsDir + "/d_pu_u/x/../app/0.log.20260101-000000", api.PodLogsDir + "/d_pw_w/app/0.log.20260101-000000",
		api.PodLogsDir + "/other\nnow 9\n/app/0.log.20260101-000000", "",
	}, "\x00"))
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
}

// What the host says of its leftovers is understood only as the script says it: names that others choose forge nothing.
func TestForgedLeftovers(t *testing.T) {
	if want := strings.Count(api.Scratch, "X"); strings.Count(scratchGlob, "[A-Za-z0-9]") != want || !scratchName.MatchString(strings.ReplaceAll(api.Scratch, "X", "a")) {
		t.Fatalf("the names of scripts' files have %d letters, and those that go have not", want)
	}
	const head, old = "now 1700000000\n", "at 1600000000 "
	for _, text := range []string{
		"", "nonsense\n", old + api.ScratchPrefix + "aaaaaaaaaa\n" + head + "logs\n", head + head + "logs\n", "now\nlogs\n", "now x\nlogs\n",
		head + old + "/etc\nlogs\n", head + old + "etc\nlogs\n", head + old + api.ScratchPrefix + "notes\nlogs\n", head + old + api.ScratchPrefix + "aaaaaaaaaaa\nlogs\n",
		head + old + api.ScratchPrefix + "aaaaaaaaa/\nlogs\n", head + old + api.ScratchPrefix + "with a bl\nlogs\n", head + old + "\nlogs\n",
		head + "id 10.244.1.2 \nlogs\n", head + "id etc box\nlogs\n", head + "id 10.244.1.2 a/b\nlogs\n", head + "at x " + api.ScratchPrefix + "aaaaaaaaaa\nlogs\n",
		head + "\nlogs\n", head + "log /etc/passwd\nlogs\n",
	} {
		if err := (&leftovers{}).read(text); err == nil {
			t.Errorf("%q is understood", text)
		}
	}
	if err := (&leftovers{}).read(head + "logs\n"); err != nil {
		t.Error(err)
	}
}

// The script that takes away does not rely on the one that looks.
func TestTidyScriptTakesNoOtherFiles(t *testing.T) {
	t.Parallel()
	for _, shell := range shells(t) {
		dir := t.TempDir()
		mine, link := filepath.Join(dir, "mine"), api.ScratchPrefix+"LinkOf"+fmt.Sprintf("%04d", os.Getpid()%10000)
		if err := os.WriteFile(mine, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{mine, api.ScratchPrefix + "notes", api.ScratchPrefix + "aaaaaaaaaa\n", api.ScratchPrefix + "x/../../" + mine, api.ScratchPrefix + "aaaaaaa/.."} {
			if out, err := exec.CommandContext(t.Context(), shell, "-c", tidyScript, "sh", "0", "0", name).CombinedOutput(); err == nil || !strings.Contains(string(out), "is no file of a script") {
				t.Errorf("%s: %q goes: %v %s", shell, name, err, out)
			}
		}
		if err := os.Symlink(dir, link); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), shell, "-c", tidyScript, "sh", "0", "0", link).CombinedOutput()
		if _, there := os.Lstat(link); err != nil || there != nil {
			t.Errorf("%s: a link goes: %v %s", shell, err, out)
		}
		if err := os.Remove(link); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(mine); err != nil {
			t.Error(err)
		}
		if out, err := exec.CommandContext(t.Context(), shell, "-c", tidyScript, "sh", "0", "1", mine).CombinedOutput(); err != nil {
			t.Errorf("%s: %v %s", shell, err, out)
		}
		if _, err := os.Stat(mine); err == nil {
			t.Error("a log stays")
		}
	}
}
