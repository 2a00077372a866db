package planner

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

var update = flag.Bool("update", false, "rewrite plan.golden in testdata")

// TestGoldens plans each story of testdata. A story is a txtar file:
//
//	before.yaml   a configuration that was applied (left out: nothing was)
//	events        what happened to the hosts since, one line each: see (*world).event
//	edit.yaml     the configuration of the event change [STEPS], where it is not after.yaml
//	after.yaml    the configuration to plan (left out: before.yaml again)
//	options       options of the plan: destroy, target ADDRESS, replace ADDRESS, pin REF DIGEST, applied, refresh, override
//	              ADDRESS PATH ENDS VALUE, reset ADDRESS PATH, drain NODE FLAG...
//	jobs          what becomes of the jobs of before.yaml: "fail NAME" for pods whose names begin so, "leave" for an apply that
//	              is interrupted while they run
//	plan.golden   the plan, or its errors
//
// Unless the options say "once", the plan is then applied and planned again, and that must be empty.
func TestGoldens(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			archive := txtar.Parse(text)
			got := tell(t, archive)
			if *update {
				setFile(archive, "plan.golden", got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(part(archive, "plan.golden")), got); diff != "" {
				t.Errorf("plan differs (-want +got); `go test ./planner -update` rewrites:\n%s", diff)
			}
		})
	}
}

// tell runs one story and returns what to compare.
func tell(t *testing.T, a *txtar.Archive) string {
	t.Helper()
	w := newWorld(t, nodes("a1", "a2", "a3"))
	after := part(a, "after.yaml")
	for line := range strings.Lines(string(part(a, "jobs"))) {
		switch f := strings.Fields(line); f[0] {
		case "fail":
			w.fails = f[1]
		case "leave":
			w.interrupts = true
		}
	}
	if before := part(a, "before.yaml"); before != nil {
		c := storyConfig(t, before)
		p, ds := Plan(w.input(c, Options{}))
		if ds.HasErrors() {
			t.Fatalf("before.yaml: %v", ds.Err())
		}
		w.apply(p, first, everything)
		w.last = c
		w.fails, w.interrupts, w.cut = "", false, false
		if after == nil {
			after = before
		}
	}
	for line := range strings.Lines(string(part(a, "events"))) {
		f := strings.Fields(line)
		if f[0] != "change" {
			w.event(f)
			continue
		}
		edit, steps := part(a, "edit.yaml"), everything
		if edit == nil {
			edit = after
		}
		if len(f) > 1 {
			steps, _ = strconv.Atoi(f[1])
		}
		w.apply(w.plan(storyConfig(t, edit), Options{}), first, steps)
	}
	in := w.input(storyConfig(t, after), Options{})
	once := options(t, &in, string(part(a, "options")))
	if in.Applied {
		in.Config = Applied(w.state)
	}
	p, ds := Plan(in)
	if ds.HasErrors() {
		return diagnostics(ds)
	}
	if !once {
		w.apply(p, first, everything)
		again := in
		again.Prior, again.Observed, again.Replace, again.ConfirmDead, again.Fence = clone(t, w.state), w.observed(), nil, nil, nil
		again.Overrides, again.Reset, again.Rollouts, again.Runs, again.Drain = nil, nil, nil, nil, nil
		if in.Applied {
			again.Config = Applied(again.Prior)
		}
		if p, ds := Plan(again); ds.HasErrors() || !p.Empty() {
			t.Errorf("not empty after apply: %v\n%s", ds.Err(), dump(p))
		}
	}
	return dump(p)
}

func options(t *testing.T, in *Input, text string) (once bool) {
	t.Helper()
	for line := range strings.Lines(text) {
		switch f := strings.Fields(line); f[0] {
		case "destroy":
			in.Destroy = true
		case "target":
			in.Targets = append(in.Targets, f[1])
		case "replace":
			in.Replace = append(in.Replace, f[1])
		case "confirm-dead":
			in.ConfirmDead = append(in.ConfirmDead, f[1])
		case "fence":
			in.Fence = append(in.Fence, f[1])
		case "pin":
			in.Pins = map[string]string{f[1]: f[2]}
		case "applied":
			in.Applied = true
		case "refresh":
			in.Applied, in.RefreshOnly = true, true
		case "grace":
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			in.Grace = &n
		case "override":
			in.Overrides = append(in.Overrides, anOverride(t, f[1:]))
		case "resume", "promote":
			a, err := api.ParseAddress(f[1])
			if err != nil {
				t.Fatal(err)
			}
			in.Rollouts = append(in.Rollouts, RolloutRequest{Address: a, Promote: f[0] == "promote"})
		case "reset":
			in.Reset = append(in.Reset, anOverride(t, append(f[1:], "", "")).Key())
		case "run":
			a, err := api.ParseAddress(f[1])
			if err != nil {
				t.Fatal(err)
			}
			in.Runs = append(in.Runs, JobRequest{Address: a, Name: f[2]})
		case "now":
			now, err := time.Parse(time.RFC3339, f[1])
			if err != nil {
				t.Fatal(err)
			}
			in.Now = now
		case "no-wait":
			in.NoWait = true
		case "drain":
			in.Drain = aDrain(t, f[1:])
		case "once":
			once = true
		default:
			t.Fatalf("unknown option %q", line)
		}
	}
	return once
}

// aDrain reads NODE and the flags of berth drain.
func aDrain(t *testing.T, f []string) *Drain {
	t.Helper()
	o := &Drain{Nodes: f[:1]}
	for _, flag := range f[1:] {
		name, value, _ := strings.Cut(flag, "=")
		switch name {
		case "force":
			o.Force = true
		case "ignore-daemonsets":
			o.IgnoreDaemonSets = true
		case "delete-emptydir-data":
			o.DeleteEmptyDir = true
		case "disable-eviction":
			o.DisableEviction = true
		case "pod-selector":
			s, err := labels.Parse(value)
			if err != nil {
				t.Fatal(err)
			}
			o.Pods = s
		default:
			t.Fatalf("unknown flag %q", flag)
		}
	}
	return o
}

// anOverride reads ADDRESS PATH ENDS VALUE.
func anOverride(t *testing.T, f []string) api.Override {
	t.Helper()
	a, err := api.ParseAddress(f[0])
	if err != nil {
		t.Fatal(err)
	}
	return api.Override{Address: a, Path: f[1], Ends: f[2], Value: api.RawJSON(f[3]), Who: "ann@ws1", Reason: "berth test"}
}

// story is a configuration as stories spell it.
type story struct {
	Cluster api.Cluster   `json:"cluster"`
	Nodes   []*api.Node   `json:"nodes"`
	Objects []*api.Object `json:"objects"`
	Outputs []*api.Output `json:"outputs"`
}

func storyConfig(t *testing.T, text []byte) *api.Config {
	t.Helper()
	s := story{Cluster: api.DefaultCluster}
	if err := yaml.UnmarshalStrict(text, &s); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(s.Objects, func(a, b *api.Object) int { return a.Address.Compare(b.Address) })
	return &api.Config{Cluster: s.Cluster, Nodes: s.Nodes, Objects: s.Objects, Outputs: s.Outputs}
}

// event does to a host what a line of a story says: cut, refuse, ill, reboot, foreign, crash CONTAINER, lose (its first pod),
// flush (its services), containerd VERSION, fill (a volume of its first pod), unrecord (the objects of its pods), unset (its network), nodir (its volumes), lacks WHAT, key KEY and keyless (of WireGuard), direct PREFIX (reached without a router), damage (the rules of its services), stray (a pod and rules nobody knows).
func (w *world) event(f []string) {
	w.t.Helper()
	if f[0] == "override" { // a command put it in force before
		t := w.t.(*testing.T)
		w.apply(w.plan(Applied(w.state), Options{Applied: true, Overrides: []api.Override{anOverride(t, f[1:])}}), first, everything)
		return
	}
	if f[0] == "chosen" { // AUTOSCALER TARGET N: by the watchdog
		var a, target api.Address
		a, _ = api.ParseAddress(f[1])
		target, _ = api.ParseAddress(f[2])
		n, _ := strconv.ParseInt(f[3], 10, 32)
		w.state.Apply(api.Delta{PutAutoscaler: &api.AutoscalerState{Address: a, Target: target, Replicas: int32(n)}})
		return
	}
	if f[0] == "apply" {
		w.apply(w.plan(w.last, Options{}), first, everything)
		return
	}
	if f[0] == "leased" { // a watchdog has given all pods a lease
		for i := range w.state.Pods {
			w.state.Pods[i].LeaseSeconds = 30
		}
		return
	}
	h := w.hosts[f[1]]
	switch f[0] {
	case "cut":
		h.Unreachable = "dial tcp: connection refused"
	case "lost": // a watchdog has found it to be lost; with a time, its pods have their turn since then; leases-over says that they have run out
		l := api.LostNode{Name: h.Name, Ready: corev1.ConditionUnknown, Message: "Nobody reaches the host.", Who: "ops@hq", Since: time.Date(2026, 1, 1, 0, 0, 50, 0, time.UTC)}
		if len(f) > 2 {
			at, err := time.Parse(time.RFC3339, f[2])
			if err != nil {
				w.t.Fatal(err)
			}
			l.Evict, l.LeaseOver = &at, slices.Contains(f, "leases-over")
		}
		w.state.Apply(api.Delta{PutLost: &l})
	case "evict": // what a round of the watchdog does at a time
		now, err := time.Parse(time.RFC3339, f[2])
		if err != nil {
			w.t.Fatal(err)
		}
		w.apply(w.plan(w.last, Options{Now: now}), first, everything)
	case "cut-end":
		h.Unreachable = ""
	case "buried": // its pods were made elsewhere: applied with --confirm-dead
		p, ds := Plan(Input{Config: w.last, Prior: w.state, Observed: w.observed(), Options: Options{ConfirmDead: []string{h.Name}}})
		if ds.HasErrors() {
			w.t.Fatal(ds.Err())
		}
		w.apply(p, first, everything)
	case "unname":
		delete(h.DNS, f[2])
	case "refuse":
		h.Unreachable = "connect to " + h.Name + ": the host key is another one"
		h.Problems = api.Diagnostics{{Severity: api.SeverityError, Summary: "Changed host key", Detail: "It shows another one."}}
	case "ill":
		h.Problems = api.Diagnostics{{Severity: api.SeverityError, Summary: "containerd is not running", Detail: "Start it with systemctl start containerd."}}
	case "reboot":
		h.BootID += "-2"
		for i := range h.Pods {
			stop(&h.Pods[i])
			h.Pods[i].SandboxReady = false
		}
	case "six":
		h.Facts.OtherIP = "fd00:10::11"
	case "key": // KEY
		h.PublicKey = f[2]
	case "keyless":
		h.PublicKey, h.Network = "", ""
	case "direct": // PREFIX
		h.Facts.Direct = f[2]
	case "lacks":
		h.Facts.Lacks = f[2]
	case "damage": // the rules of its services
		for key := range h.Services {
			h.Services[key] = ""
		}
	case "foreign":
		h.Lineage = "99999999-0000-0000-0000-000000000000"
	case "fill":
		h.Pods[0].Evict = `Usage of EmptyDir volume "v" exceeds the limit "1Gi".`
	case "crash": // all of the first pod's containers, or one
		if len(f) > 2 {
			i := slices.IndexFunc(h.Pods[0].Containers, func(c api.ObservedContainer) bool { return c.Name == f[2] })
			c := &h.Pods[0].Containers[i]
			c.State, c.ExitCode = api.ContainerExited, 1
			break
		}
		stop(&h.Pods[0])
	case "other": // the first pod was made anew by a run that the state knows nothing of
		h.Pods[0].UID, h.Pods[0].SandboxID = "other", "other-sandbox"
	case "alter": // a file of the first pod
		h.Pods[0].Altered = []string{f[2]}
	case "lose":
		h.Pods = slices.Delete(h.Pods, 0, 1)
	case "flush":
		clear(h.Services)
	case "unset":
		h.Network = ""
	case "containerd":
		h.Facts.Containerd = f[2]
	case "prune": // somebody removed the images that are not Berth's own
		h.Images = slices.DeleteFunc(h.Images, func(ref string) bool { return ref != api.PauseRef })
	case "edit": // somebody changed rules
		for key := range h.Services {
			h.Services[key] = "something"
		}
	case "capable":
		h.Facts.AppArmor, h.Facts.StrictGroups, h.Facts.UserNamespaces = true, true, true
	case "dir": // the directory of a volume lies there, and nobody knows
		h.Volumes = append(h.Volumes, api.ObservedVolume{Namespace: "dev", Name: f[2], Path: api.VolumesDir + "/dev/" + f[2]})
	case "nodir":
		h.Volumes = nil
	case "unready":
		for i := range w.state.Pods {
			if w.state.Pods[i].Node == h.Name {
				w.state.Pods[i].Ready = false
			}
		}
	case "forget":
		w.state.Pods = slices.DeleteFunc(w.state.Pods, func(p api.PodState) bool { return p.Node == h.Name })
	case "unrecord":
		w.state.Objects = slices.DeleteFunc(w.state.Objects, func(o *api.Object) bool {
			return slices.ContainsFunc(w.state.Pods, func(p api.PodState) bool { return p.Node == h.Name && p.Address.Owner() == o.Address })
		})
	case "stray":
		h.Pods = append(h.Pods, api.ObservedPod{
			Address: api.Address{Kind: api.KindDeployment, Name: "old", Pod: "old-x"}, Namespace: "dev", Name: "old-x", UID: "stray",
			Lineage: w.state.Lineage, SandboxReady: true, SandboxID: "sb-stray", Containers: []api.ObservedContainer{{Name: "c", State: api.ContainerRunning}},
		})
		h.Services["dev/old"] = "something"
	case "rest": // a removal was cut short
		h.Remains = append(h.Remains, api.ObservedRemains{
			Address: api.Address{Kind: api.KindDeployment, Name: "web", Pod: "web-x"}, Namespace: "dev", Name: "web-x", UID: "rest", Lineage: w.state.Lineage,
		})
	case "unmake": // of a pod that the state knows, too
		h.Remains = append(h.Remains, api.ObservedRemains{Address: h.Pods[0].Address, Namespace: "dev", Name: h.Pods[0].Name, UID: h.Pods[0].UID, Lineage: w.state.Lineage})
		h.Pods = slices.Delete(h.Pods, 0, 1)
	default:
		w.t.Fatalf("unknown event %q", f)
	}
}

func part(a *txtar.Archive, name string) []byte {
	for _, f := range a.Files {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}

func setFile(a *txtar.Archive, name, text string) {
	for i := range a.Files {
		if a.Files[i].Name == name {
			a.Files[i].Data = []byte(text)
			return
		}
	}
	a.Files = append(a.Files, txtar.File{Name: name, Data: bytes.Clone([]byte(text))})
}
