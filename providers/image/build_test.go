package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"berth.dev/berth/api"
)

func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func spec(from string) *api.Image {
	img := &api.Image{Spec: api.ImageSpec{
		Base: "scratch", Entrypoint: []string{"/app"}, Env: map[string]string{"B": "2", "A": "1"}, User: "1000",
		Labels: map[string]string{"x": "y"}, Copy: []api.ImageCopy{{Name: "/srv/www", From: from, Exclude: []string{"**/*.tmp"}}},
	}}
	img.Name = "shop"
	return img
}

func TestBuildIsReproducible(t *testing.T) {
	t.Parallel()
	files := map[string]string{"index.html": "hello", "a/b.txt": "b", "a/c.tmp": "junk"}
	one, two := tree(t, files), tree(t, files)
	if err := os.Chtimes(filepath.Join(two, "index.html"), time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	b := NewBuilder(BuilderOptions{})
	first, err := b.Build(t.Context(), spec(one))
	if err != nil {
		t.Fatal(err)
	}
	second, err := NewBuilder(BuilderOptions{}).Build(t.Context(), spec(two))
	if err != nil {
		t.Fatal(err)
	}
	if first != second {
		t.Errorf("the same files gave %s and %s", first, second)
	}
	if err := os.WriteFile(filepath.Join(two, "index.html"), []byte("hallo"), 0o644); err != nil {
		t.Fatal(err)
	}
	if third, err := b.Build(t.Context(), spec(two)); err != nil || third == first {
		t.Errorf("a changed file gave %s, %v", third, err)
	}
	if err := validate.Image(b.images[first], validate.Fast); err != nil {
		t.Errorf("not a valid image: %v", err)
	}
}

func TestBuildFindsRelativeSources(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{"index.html": "hello"})
	relative := spec(filepath.Base(dir))
	got, err := NewBuilder(BuilderOptions{Dir: filepath.Dir(dir)}).Build(t.Context(), relative)
	if err != nil {
		t.Fatal(err)
	}
	want, err := NewBuilder(BuilderOptions{}).Build(t.Context(), spec(dir))
	if err != nil || got != want {
		t.Errorf("the same directory gave %s and %s, %v", got, want, err)
	}
	if relative.Spec.Copy[0].From != filepath.Base(dir) {
		t.Errorf("the block was changed: %s", relative.Spec.Copy[0].From)
	}
}

func TestBuildContent(t *testing.T) {
	t.Parallel()
	b := NewBuilder(BuilderOptions{})
	ref, err := b.Build(t.Context(), spec(tree(t, map[string]string{"index.html": "hello", "a/b.txt": "b", "a/c.tmp": "junk"})))
	if err != nil {
		t.Fatal(err)
	}
	img := b.images[ref]
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	want := v1.Config{Entrypoint: []string{"/app"}, Env: []string{"A=1", "B=2"}, User: "1000", Labels: map[string]string{"x": "y"}}
	if d := cmp.Diff(want, cf.Config); d != "" {
		t.Error(d)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	r, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var names []string
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	if d := cmp.Diff([]string{"srv/", "srv/www/", "srv/www/a/", "srv/www/a/b.txt", "srv/www/index.html"}, names); d != "" {
		t.Error(d)
	}
}

func TestBuildErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		change func(*api.Image)
		want   string
	}{
		{"missing source", func(i *api.Image) { i.Spec.Copy[0].From = "/nowhere" }, "/nowhere does not exist"},
		{"owner", func(i *api.Image) { i.Spec.Copy[0].Owner = "root" }, `owner "root"`},
		{"mode", func(i *api.Image) { i.Spec.Copy[0].Mode = "rwx" }, `mode "rwx"`},
		{"platform", func(i *api.Image) { i.Spec.Platform = "linux" }, `platform "linux"`},
		{"base", func(i *api.Image) { i.Spec.Base = "UPPER CASE" }, "not an image reference"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			img := spec(t.TempDir())
			tc.change(img)
			_, err := NewBuilder(BuilderOptions{}).Build(t.Context(), img)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q in it", err, tc.want)
			}
		})
	}
}

func TestBaseAndResolve(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "http://")
	base, err := pauseImage("amd64")
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(host + "/base:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, base); err != nil {
		t.Fatal(err)
	}
	b := NewBuilder(BuilderOptions{CacheDir: t.TempDir()})
	img := spec(tree(t, map[string]string{"f": "x"}))
	img.Spec.Base, img.Spec.Entrypoint = host+"/base:1", nil
	ref, err := b.Build(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	cf, err := b.images[ref].ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if len(cf.RootFS.DiffIDs) != 2 || cf.Config.Entrypoint[0] != "/pause" {
		t.Errorf("the base's layer or entrypoint is lost: %+v", cf)
	}
	sum, err := base.Digest()
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.Resolve(t.Context(), host+"/base:1")
	if want := host + "/base@" + sum.String(); err != nil || got != want {
		t.Errorf("resolve: %s, %v, want %s", got, err, want)
	}
	if _, err := b.Resolve(t.Context(), host+"/nothing:1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a missing image: %v", err)
	}
	srv.Close()
	if _, err := b.Resolve(t.Context(), host+"/base:1"); !errors.Is(err, ErrRegistryUnreachable) {
		t.Errorf("a registry that is gone: %v", err)
	}
}

// TestPauseRuns starts the sandbox program of this machine and sees that it sleeps until it is killed.
func TestPauseRuns(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the sandbox program is for Linux")
	}
	program, err := pauseProgram(runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "pause")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	ignored := false
	deadline := time.After(time.Minute)
	for !ignored {
		select {
		case err := <-done:
			t.Fatalf("it ended by itself: %v", err)
		case <-deadline:
			t.Fatal("it does not ignore SIGCHLD")
		default:
		}
		st, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/status")
		if err != nil {
			t.Fatal(err)
		}
		ignored = ignores(t, st, syscall.SIGCHLD) && bytes.Contains(st, []byte("State:\tS"))
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-done
}

// ignores reads from /proc/PID/status whether a signal is ignored; others may be, too, as the test's own process was started.
func ignores(t *testing.T, status []byte, sig syscall.Signal) bool {
	t.Helper()
	_, rest, _ := bytes.Cut(status, []byte("SigIgn:\t"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	mask, err := strconv.ParseUint(string(line), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return mask&(1<<(sig-1)) != 0
}
