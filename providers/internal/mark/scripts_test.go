package mark

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

// Both ways of asking a host, in a shell: who is refused, and what the host remembers of whom it has let in.
func TestWhoIsLetIn(t *testing.T) {
	t.Parallel()
	const ours = `{"lineage":"l1","cluster":"c","node":"n"`
	for _, tt := range []struct {
		name        string
		mark        string
		fence, term uint64
		status      int // of the gate
		after       string
	}{
		{"the same run", ours + `,"fence":7}`, 7, 0, 0, ours + `,"fence":7}`},
		{"a newer run", ours + `,"fence":7}`, 8, 0, 0, ours + `,"fence":8}`},
		{"an older run", ours + `,"fence":7}`, 6, 0, gateFenced, ours + `,"fence":7}`},
		{"a run beside a watchdog", ours + `,"term":3,"fence":7}`, 8, 0, 0, ours + `,"term":3,"fence":8}`},
		{"the first watchdog", ours + `,"fence":7}`, 7, 1, 0, ours + `,"term":1,"fence":7}`},
		{"the same watchdog", ours + `,"term":3,"fence":7}`, 7, 3, 0, ours + `,"term":3,"fence":7}`},
		{"a newer watchdog, newer run", ours + `,"term":3,"fence":7}`, 9, 4, 0, ours + `,"term":4,"fence":9}`},
		{"an older watchdog, newer run", ours + `,"term":10,"fence":7}`, 9, 9, gateOutranked, ours + `,"term":10,"fence":7}`},
		{"a newer watchdog, older run", ours + `,"term":3,"fence":7}`, 6, 4, gateFenced, ours + `,"term":3,"fence":7}`},
		{"a watchdog that says no run", ours + `,"term":3,"fence":7}`, 0, 4, 0, ours + `,"term":4,"fence":7}`},
		{"another cluster", strings.Replace(ours, "l1", "l2", 1) + `,"term":3,"fence":7}`, 9, 9, gateForeign, strings.Replace(ours, "l1", "l2", 1) + `,"term":3,"fence":7}`},
		{"a damaged mark", ours + `,"term":x,"fence":7}`, 9, 9, 1, ours + `,"term":x,"fence":7}`},
	} {
		args, err := Args(&providers.Work{Lineage: "l1", Cluster: api.Cluster{Name: "c"}, Step: &api.Step{Node: "n"}, Fence: tt.fence, Term: tt.term})
		if err != nil {
			t.Fatal(err)
		}
		for _, way := range []struct{ name, script string }{{"gate", gate + "echo in"}, {"check", Check + "berth_write_mark; echo in"}} {
			t.Run(tt.name+" by "+way.name, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				mark := filepath.Join(dir, "cluster.json")
				if err := errors.Join(os.WriteFile(mark, []byte(tt.mark+"\n"), 0o600), os.Mkdir(filepath.Join(dir, "network"), 0o700)); err != nil {
					t.Fatal(err)
				}
				script := strings.NewReplacer(api.MarkFile, mark, api.NetworkDir, filepath.Join(dir, "network")).Replace(way.script)
				out, status, stderr := shell(t, script, args)
				want := tt.status
				if way.name == "check" {
					want = map[int]int{0: 0, 1: 1, gateFenced: statusFenced, gateOutranked: statusOutranked, gateForeign: statusForeign}[tt.status]
				}
				if status != want || (status == 0) != (out == "in\n") {
					t.Errorf("status %d, want %d; it printed %q, %q", status, want, out, stderr)
				}
				if tt.status == gateOutranked && strings.TrimSpace(stderr) != "10" {
					t.Errorf("it says %q of who has been there", stderr)
				}
				after, err := os.ReadFile(mark)
				if err != nil || strings.TrimSpace(string(after)) != tt.after {
					t.Errorf("the mark is %s, want %s", after, tt.after)
				}
			})
		}
	}
}

func shell(t *testing.T, script string, args []string) (stdout string, status int, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "sh", append([]string{"-s", "--"}, args...)...)
	var out, complaints strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(script), &out, &complaints
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode(), complaints.String()
}
