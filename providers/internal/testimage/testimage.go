// Package testimage gives tests an image to run on lab hosts: one static program that serves, sleeps, crashes and tells
// what it sees. The image provider builds and delivers it like any image block; nothing comes from a registry.
package testimage

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/api"
)

// Program is where the program lies in the image. It is the entrypoint; a pod's args say what it does (see package program).
const Program = "/program"

// built is compiled once for all tests of a process; the folder goes with the process's temporary files.
var built = sync.OnceValues(build)

// Spec describes the image as an image block would.
func Spec(t testing.TB) *api.Image {
	t.Helper()
	file, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return &api.Image{
		ObjectMeta: metav1.ObjectMeta{Name: "test"},
		Spec: api.ImageSpec{
			Base: "scratch", Platform: "linux/" + runtime.GOARCH, Entrypoint: []string{Program}, Cmd: []string{"sleep"},
			Env:  map[string]string{"FROM_IMAGE": "yes"},
			Copy: []api.ImageCopy{{Name: Program, From: file}},
		},
	}
}

func build() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "berth-testimage")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	next, err := os.CreateTemp(dir, "program-*")
	if err != nil {
		return "", err
	}
	if err := next.Close(); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", next.Name(), "berth.dev/berth/providers/internal/testimage/program")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return "", err
	}
	file := filepath.Join(dir, "program")
	return file, os.Rename(next.Name(), file)
}
