package local_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"berth.dev/berth/api"
	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/statetest"
)

// onTmpfs runs the test's goroutine on a thread of its own with a small file system mounted at the returned
// directory, which nobody else sees and which ends with the thread.
func onTmpfs(t *testing.T, size string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a file system needs root")
	}
	dir := t.TempDir()
	runtime.LockOSThread() // not unlocked: the thread must not be used for anything else afterwards
	for _, err := range []error{
		unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS),
		unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size),
	} {
		if err != nil {
			t.Skipf("mounting a file system: %v", err)
		}
	}
	t.Cleanup(func() { // on the same thread, before the directory is removed
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestReadOnlyDirectory(t *testing.T) {
	t.Parallel()
	dir := onTmpfs(t, "1m")
	s := newStore(t, filepath.Join(dir, "berth.state"))
	run(t, s, 0, 1)
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if st, err := statefile.Read(t.Context(), s); err != nil || len(st.Pods) != 1 {
		t.Errorf("Read: %v", err)
	}
	_, err := statefile.Open(t.Context(), s, statefile.LockInfo{}, statefile.OpenOptions{})
	want := api.Diagnostics{{Severity: api.SeverityError, Summary: "State directory is not writable",
		Detail: fmt.Sprintf(`open %s/berth.state.lock: read-only file system. It lies on a read-only file system: mount that for writing, or keep the state elsewhere with path in the backend "local" block.`, dir)}}
	if diff := cmp.Diff(want, api.DiagnosticsOf(err, "other")); diff != "" {
		t.Error(diff)
	}
}

// TestFullDisk fills the disk in the middle of a run. What was reported as finished stays finished.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := onTmpfs(t, "256k")
	s := newStore(t, filepath.Join(dir, "berth.state"))
	run(t, s, 0, 1)
	f := open(t, s)
	finished := 0
	var err error
	for n := 1; n < 10_000; n++ {
		if err = errors.Join(f.Begin(statetest.Step(n)), f.Done(statetest.Step(n), statetest.Delta(n))); err != nil {
			break
		}
		finished = n
	}
	if !errors.Is(err, syscall.ENOSPC) || finished == 0 {
		t.Fatalf("after %d steps: %v", finished, err)
	}
	if ds := api.DiagnosticsOf(err, "other"); ds[0].Summary != "No space left for the state" {
		t.Errorf("%+v", ds)
	}
	if err := f.Close(t.Context()); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Close: %v", err)
	}
	st, err := statefile.Read(t.Context(), s)
	if err != nil || len(st.Pods) <= finished {
		t.Fatalf("%d pods (%v), want the first and %d more", len(st.Pods), err, finished)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=8m"); err != nil {
		t.Fatal(err)
	}
	run(t, s, 20_000, 20_001)
	if st, err = statefile.Read(t.Context(), s); err != nil || len(st.Pods) <= finished+1 {
		t.Errorf("with space again: %v", err)
	}
	if got := files(t, dir); len(got) != 4 {
		t.Errorf("left behind: %v", got)
	}
}
