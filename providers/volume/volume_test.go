package volume_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/api"
	"berth.dev/berth/internal/lab"
	"berth.dev/berth/internal/lab/labtest"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/hosttest"
	"berth.dev/berth/providers/volume"
)

func TestMain(m *testing.M) { labtest.Main(m, lab.Config{Nodes: 1}) }

// TestVolumes makes, fills, finds and removes volumes on a host.
func TestVolumes(t *testing.T) {
	l := labtest.Shared(t)
	node := l.Nodes()[0]
	h := hosttest.New(node.Name, func() (int, error) {
		st, err := l.Status(t.Context())
		if err != nil || !st[0].Running {
			return 0, errors.Join(err, errors.New("powered off"))
		}
		return st[0].Pid, nil
	})
	p := volume.New()
	sh := func(script string) string {
		t.Helper()
		out, err := h.Run(t.Context(), providers.Command{Script: script})
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out.Stdout))
	}
	apply := func(op api.Op, path string) error {
		_, err := p.Apply(t.Context(), h, &providers.Work{Step: &api.Step{Op: op, Volume: &api.VolumeState{Path: path}}})
		return err
	}
	observed := func() []api.ObservedVolume {
		t.Helper()
		var obs api.NodeObservation
		if err := p.Observe(t.Context(), h, &obs); err != nil {
			t.Fatal(err)
		}
		return obs.Volumes
	}
	const db, cache = api.VolumesDir + "/shop/db", api.VolumesDir + "/shop/cache.v1"

	if got := observed(); got != nil {
		t.Errorf("a fresh host has volumes: %v", got)
	}
	before := sh("find /var/lib/berth")
	for range 2 {
		for _, path := range []string{db, cache} {
			if err := apply(api.OpVolumeEnsure, path); err != nil {
				t.Fatal(err)
			}
		}
		sh("echo precious >>" + db + "/file; chmod 0750 " + cache)
	}
	if got := sh("stat -c %a " + db + " " + cache + "; wc -l <" + db + "/file"); got != "777\n750\n2" {
		t.Errorf("making a volume again changed it: %q", got)
	}
	sh("mkdir -p " + api.VolumesDir + "/shop/.hidden " + api.VolumesDir + "/shop/db/below")
	want := []api.ObservedVolume{{Namespace: "shop", Name: "cache.v1", Path: cache}, {Namespace: "shop", Name: "db", Path: db}}
	if diff := cmp.Diff(want, observed()); diff != "" {
		t.Errorf("observed (-want +got):\n%s", diff)
	}
	sh("rmdir " + api.VolumesDir + "/shop/.hidden")

	sh("mkdir /mnt/disk && echo other >/mnt/disk/file && mkdir -p " + db + "/mounted && mount --bind /mnt/disk " + db + "/mounted")
	if err := apply(api.OpVolumeRemove, db); err == nil || !strings.Contains(err.Error(), "something is mounted on or below") {
		t.Errorf("removed a volume with something mounted in it: %v", err)
	}
	if got := sh("cat /mnt/disk/file " + db + "/file; umount " + db + "/mounted"); !strings.HasPrefix(got, "other\nprecious") {
		t.Errorf("data is gone: %q", got)
	}
	for range 2 {
		for _, path := range []string{db, cache} {
			if err := apply(api.OpVolumeRemove, path); err != nil {
				t.Fatal(err)
			}
		}
	}
	if diff := cmp.Diff(before, sh("find /var/lib/berth")); diff != "" {
		t.Errorf("something is left (-before +after):\n%s", diff)
	}
}

func TestPathsOutsideAreRefused(t *testing.T) {
	t.Parallel()
	for _, path := range []string{
		"", "/", "/etc", api.VolumesDir, api.VolumesDir + "/", api.VolumesDir + "/shop", api.VolumesDir + "/shop/", api.VolumesDir + "/../pods/x",
		api.VolumesDir + "/shop/..", api.VolumesDir + "/shop/db/..", api.VolumesDir + "/shop/db/below", api.VolumesDir + "x/shop/db", api.VolumesDir + "/Shop/db", "volumes/shop/db",
	} {
		for _, op := range []api.Op{api.OpVolumeEnsure, api.OpVolumeRemove} {
			w := &providers.Work{Step: &api.Step{Op: op, Volume: &api.VolumeState{Path: path}}}
			if _, err := volume.New().Apply(t.Context(), nil, w); err == nil || !strings.Contains(err.Error(), "is not of the form") {
				t.Errorf("%s of %q: %v", op, path, err)
			}
		}
	}
}
