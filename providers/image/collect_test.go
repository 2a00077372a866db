package image

import (
	"slices"
	"strings"
	"testing"
	"time"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/cri"
	"berth.dev/berth/providers/internal/testimage"
)

// Which images go, by how full the disk is, and what is known of them: the kubelet's rules.
func TestWhichImagesGo(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	const gib = 1 << 30
	image := func(name string, size uint64) *runtimev1.Image {
		return &runtimev1.Image{Id: "id-" + name, RepoTags: []string{"r/" + name + ":1"}, Size: size}
	}
	s := &surveyed{
		images: []*runtimev1.Image{image("used", gib), image("old", gib), image("older", gib), image("never", gib), image("young", gib), image("foreign", gib), image("shared", gib)},
		ours:   map[string]bool{},
	}
	for _, i := range s.images {
		s.ours[i.RepoTags[0]] = i.Id != "id-foreign"
	}
	s.images[6].RepoTags = append(s.images[6].RepoTags, "somebody/shared:1")
	known := map[string]usage{
		"id-used": {ago(time.Hour), now}, "id-old": {ago(time.Hour), ago(10 * time.Minute)}, "id-older": {ago(time.Hour), ago(20 * time.Minute)},
		"id-never": {ago(30 * time.Minute), time.Time{}}, "id-young": {ago(time.Minute), time.Time{}}, "id-foreign": {ago(time.Hour), time.Time{}}, "id-shared": {ago(time.Hour), time.Time{}},
	}
	rules := api.DefaultHousekeeping
	with := func(change func(*api.Housekeeping)) api.Housekeeping { r := rules; change(&r); return r }
	for _, tt := range []struct {
		name  string
		room  room
		rules api.Housekeeping
		want  string
		short int64
	}{
		{"there is room", room{100 * gib, 16 * gib}, rules, "", 0},
		{"at the threshold, one is enough", room{20 * gib, 3 * gib}, rules, "never", 0},
		{"until the low one is reached", room{100 * gib, 15 * gib}, with(func(r *api.Housekeeping) { r.ImageGCLowThresholdPercent = 83 }), "never older", 0},
		{"all that may go, and it is too little", room{100 * gib, 5 * gib}, rules, "never older old", 12 * gib},
		{"switched off", room{100 * gib, 0}, with(func(r *api.Housekeeping) { r.ImageGCHighThresholdPercent = 100 }), "", 0},
		{"by age alone", room{100 * gib, 50 * gib}, with(func(r *api.Housekeeping) { r.ImageMaximumGCAge = 15 * 60 }), "never older", 0},
		{"none is old enough", room{100 * gib, 5 * gib}, with(func(r *api.Housekeeping) { r.ImageMinimumGCAge = 7200 }), "", 15 * gib},
	} {
		s.room = tt.room
		goes, short := s.choose(known, tt.rules, now)
		var got []string
		for _, i := range goes {
			got = append(got, strings.TrimPrefix(i.Id, "id-"))
		}
		if strings.Join(got, " ") != tt.want || short != tt.short {
			t.Errorf("%s: %q and %d short, want %q and %d", tt.name, got, short, tt.want, tt.short)
		}
	}
}

// A pull owns the names that it made, and no name that somebody gave the same image.
func TestPulledNames(t *testing.T) {
	const digest = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	i := &runtimev1.Image{
		RepoTags:    []string{"docker.io/library/nginx:1", "docker.io/library/nginx:mine", "docker.io/library/nginx-mine:1", "r.example:5000/copy:1"},
		RepoDigests: []string{"docker.io/library/nginx" + digest, "r.example:5000/copy" + digest},
	}
	for ref, want := range map[string][]string{
		"nginx:1":               {i.RepoTags[0], i.RepoDigests[0]},
		"nginx" + digest:        {i.RepoDigests[0]},
		"nginx:1" + digest:      {i.RepoDigests[0]},
		"r.example:5000/copy:1": {i.RepoTags[3], i.RepoDigests[1]},
		"nginx:2":               {i.RepoDigests[0]},
		"":                      nil,
	} {
		if got := pulledNames(ref, i); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", ref, got, want)
		}
	}
}

// What is known of a host that has left is let go of, and that of the others stays.
func TestForget(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	s := &surveyed{images: []*runtimev1.Image{{Id: "i"}}}
	c := &Collector{}
	for _, h := range []string{"a", "b"} {
		c.remember(h, s, nil, now)
	}
	c.Forget([]string{"b", "c"})
	for h, want := range map[string]time.Time{"a": now.Add(time.Hour), "b": now} {
		if got := c.remember(h, s, nil, now.Add(time.Hour))["i"].found; !got.Equal(want) {
			t.Errorf("the image of %s is there since %s, want %s", h, got, want)
		}
	}
}

func TestParseRoom(t *testing.T) {
	r, err := parseRoom("Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda1 1000 800 150 85% /var/lib/con tainerd\n")
	if err != nil || r != (room{1000 << 10, 150 << 10}) || r.percent() != 85 {
		t.Errorf("%+v, %d %%, %v", r, r.percent(), err)
	}
	if _, err := parseRoom("df: no such file\n"); err == nil {
		t.Error("nonsense is understood")
	}
}

// On a host: an image that nothing needs goes when the disk is fuller than allowed, those that are needed and those of others stay.
func TestCollect(t *testing.T) {
	h := host(t)
	b := NewBuilder(BuilderOptions{})
	p := New(b)
	var refs []string
	for _, text := range []string{"one", "two", "three"} {
		img := testimage.Spec(t)
		img.Spec.Copy = append(img.Spec.Copy, spec(tree(t, map[string]string{"f": text})).Spec.Copy...)
		ref, err := b.Build(t.Context(), img)
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, ref)
		if _, err := p.Apply(t.Context(), h, work(&api.Step{Op: api.OpImageEnsure, Image: &api.ImageWork{Ref: ref, Build: img}})); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.Apply(t.Context(), h, work(&api.Step{Op: api.OpImageEnsure, Image: &api.ImageWork{Ref: api.PauseRef}})); err != nil {
		t.Fatal(err)
	}
	defer removeAll(t, p, h)
	const foreign = "somebody.example/theirs:1"
	if _, err := h.Run(t.Context(), providers.Command{Script: `ctr -n k8s.io images tag "$1" "$2" && ctr -n k8s.io images label "$2" berth.dev/image=`, Args: []string{refs[2], foreign}}); err != nil {
		t.Fatal(err)
	}
	defer remove(t, h, foreign)
	client, err := cri.Connect(h)
	if err != nil {
		t.Fatal(err)
	}
	if err := own(t.Context(), client, refs[2]); err != nil { // as after a pull
		t.Fatal(err)
	}
	names := func() []string {
		out, err := h.Run(t.Context(), providers.Command{Script: `ctr -n k8s.io images ls -q`})
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(string(out.Stdout))
	}
	w := work(&api.Step{Node: h.Name()})
	c := &Collector{}
	full := api.Housekeeping{ImageGCHighThresholdPercent: 1, ImageMinimumGCAge: 60}
	got, err := c.Collect(t.Context(), h, w, full, Needs{refs[0]}, time.Now())
	if err != nil || len(got.Images) != 0 || got.Percent < 1 || got.Short <= 0 {
		t.Fatalf("younger than the minimum age: %+v, %v", got, err)
	}
	later := time.Now().Add(2 * time.Minute)
	roomy := api.Housekeeping{ImageGCHighThresholdPercent: 99, ImageGCLowThresholdPercent: 98, ImageMinimumGCAge: 60} // more than this machine may use
	if got, err = c.Collect(t.Context(), h, w, roomy, nil, later); err != nil || len(got.Images) != 0 {
		t.Fatalf("where there is room: %+v, %v", got, err)
	}
	got, err = c.Collect(t.Context(), h, w, full, Needs{refs[0]}, later)
	if err != nil || !slices.Equal(got.Images, []string{refs[1]}) || got.Bytes <= 0 {
		t.Fatalf("%+v, %v; want %s", got, err, refs[1])
	}
	have := names()
	for ref, want := range map[string]bool{refs[0]: true, refs[1]: false, refs[2]: true, foreign: true, api.PauseRef: true} {
		if slices.Contains(have, ref) != want {
			t.Errorf("%s is there: %t; on the host: %q", ref, !want, have)
		}
	}
}

func remove(t *testing.T, h providers.Host, ref string) {
	t.Helper()
	if _, err := h.Run(t.Context(), providers.Command{Script: `ctr -n k8s.io images rm --sync "$1"`, Args: []string{ref}}); err != nil {
		t.Error(err)
	}
}

func removeAll(t *testing.T, p *Provider, h providers.Host) {
	t.Helper()
	if _, err := p.Apply(t.Context(), h, work(&api.Step{Op: api.OpImageRemove})); err != nil {
		t.Error(err)
	}
}
