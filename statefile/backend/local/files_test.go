package local_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/api"
	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/local"
	"berth.dev/berth/statefile/statetest"
)

func newStore(t *testing.T, path string) *local.Store {
	t.Helper()
	s, err := local.New(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func open(t *testing.T, s statefile.Store) *statefile.File {
	t.Helper()
	f, err := statefile.Open(t.Context(), s, statefile.LockInfo{Who: "ann@ws1", Operation: "apply", Version: "0.1.0"}, statefile.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// run makes pods from..to-1 in one run.
func run(t *testing.T, s statefile.Store, from, to int) {
	t.Helper()
	f := open(t, s)
	for n := from; n < to; n++ {
		if err := errors.Join(f.Begin(statetest.Step(n)), f.Done(statetest.Step(n), statetest.Delta(n))); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// files returns the names and modes of what lies in a directory.
func files(t *testing.T, dir string) map[string]fs.FileMode {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]fs.FileMode{}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		m[e.Name()] = info.Mode()
	}
	return m
}

func TestFilesOfARun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newStore(t, filepath.Join(dir, "berth.state"))
	if _, err := statefile.Read(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("reading left %v", got)
	}
	f := open(t, s)
	if err := f.Begin(statetest.Step(0)); err != nil {
		t.Fatal(err)
	}
	want := map[string]fs.FileMode{"berth.state.lock": 0o600, "berth.state.journal": 0o600}
	if diff := cmp.Diff(want, files(t, dir)); diff != "" {
		t.Errorf("during the first run:\n%s", diff)
	}
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(t, s, 1, 2)
	want = map[string]fs.FileMode{"berth.state.lock": 0o600, "berth.state": 0o600, "berth.state.backup": 0o600}
	if diff := cmp.Diff(want, files(t, dir)); diff != "" {
		t.Errorf("after two runs:\n%s", diff)
	}
	lock, err := os.ReadFile(filepath.Join(dir, "berth.state.lock"))
	if err != nil || string(lock) != "{\n  \"Fence\": 2\n}\n" {
		t.Errorf("the free lock says %q (%v)", lock, err)
	}
}

// newest returns the newest backup.
func newest(t *testing.T, s *local.Store) (name string, data []byte, err error) {
	t.Helper()
	list, err := s.Backups(t.Context())
	if err != nil || len(list) == 0 {
		return "", nil, err
	}
	data, err = list[0].Read(t.Context())
	return list[0].Name, data, err
}

func TestBackupIsThePreviousState(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newStore(t, filepath.Join(dir, "berth.state"))
	var before []byte
	for n := range 4 {
		name, _, err := newest(t, s)
		if err != nil || (n > 1) != (name != "") {
			t.Fatalf("run %d: backup %q, %v", n, name, err)
		}
		before, _, _ = s.Get(t.Context())
		run(t, s, n, n+1)
		if _, backup, _ := newest(t, s); string(backup) != string(before) {
			t.Errorf("run %d: the backup is not the previous state", n)
		}
	}
	// A crash between the two renames leaves state and backup as one file.
	if err := errors.Join(os.Remove(filepath.Join(dir, "berth.state.backup")),
		os.Link(filepath.Join(dir, "berth.state"), filepath.Join(dir, "berth.state.backup"))); err != nil {
		t.Fatal(err)
	}
	before, _, _ = s.Get(t.Context())
	run(t, s, 9, 10)
	if _, backup, _ := newest(t, s); string(backup) != string(before) {
		t.Error("the backup is not the previous state")
	}
	if got := files(t, dir); len(got) != 6 { // state, lock and four backups
		t.Errorf("left behind: %v", got)
	}
}

// TestBackupsCountAndAge has three of them stay, and none that is too old but the newest.
func TestBackupsCountAndAge(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newStore(t, filepath.Join(dir, "berth.state"))
	s.Retain(3, time.Hour)
	var past []string
	for n := range 6 {
		data, _, _ := s.Get(t.Context())
		past = append(past, string(data))
		run(t, s, n, n+1)
	}
	kept := func() (out []int) {
		list, err := s.Backups(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range list {
			data, err := b.Read(t.Context())
			if err != nil || b.At.IsZero() {
				t.Fatalf("%+v: %v", b, err)
			}
			out = append(out, slices.Index(past, string(data)))
		}
		return out
	}
	if got := kept(); !slices.Equal(got, []int{5, 4, 3}) {
		t.Errorf("kept %v, want the three newest", got)
	}
	old := time.Now().Add(-2 * time.Hour)
	for _, n := range []string{"", ".1"} {
		if err := os.Chtimes(filepath.Join(dir, "berth.state.backup"+n), old, old); err != nil {
			t.Fatal(err)
		}
	}
	data, _, _ := s.Get(t.Context())
	past = append(past, string(data))
	run(t, s, 6, 7)
	if got := kept(); !slices.Equal(got, []int{6}) {
		t.Errorf("kept %v, want the newest alone: the others are too many or too old", got)
	}
}

func TestDamageNamesTheBackup(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		damage func(t *testing.T, path string)
		want   string
	}{
		{"cut off", func(t *testing.T, path string) {
			if err := os.Truncate(path, 0); err != nil {
				t.Fatal(err)
			}
		}, "The state PATH cannot be used: it is empty. Nothing was changed. The last good state before it, serial 1, is whole in PATH.backup: look at it, then copy it to PATH and run berth plan, which finds on the hosts what was done since."},
		{"both", func(t *testing.T, path string) {
			if err := errors.Join(os.Truncate(path, 100), os.Truncate(path+".backup", 0)); err != nil {
				t.Fatal(err)
			}
		}, "The state PATH cannot be used: it has no checksum. Nothing was changed. Restore it from a copy or from version control, or move it away and make it anew of what the hosts keep (berth state rebuild); the backup PATH.backup is no good either (the state is damaged: it is empty)."},
		{"no backup", func(t *testing.T, path string) {
			if err := errors.Join(os.WriteFile(path, []byte("x"), 0o600), os.Remove(path+".backup")); err != nil {
				t.Fatal(err)
			}
		}, "The state PATH cannot be used: it does not begin like a state file. Nothing was changed. Restore it from a copy or from version control, or move it away and make it anew of what the hosts keep (berth state rebuild)."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "berth.state")
			s := newStore(t, path)
			run(t, s, 0, 1)
			run(t, s, 1, 2)
			tt.damage(t, path)
			for range 2 { // the first attempt must not leave a lock
				_, err := statefile.Open(t.Context(), s, statefile.LockInfo{}, statefile.OpenOptions{})
				want := api.Diagnostics{{Severity: api.SeverityError, Summary: "State is damaged", Detail: strings.ReplaceAll(tt.want, "PATH", path)}}
				if diff := cmp.Diff(want, api.DiagnosticsOf(err, "other")); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

func TestLinkToTheStateIsFollowed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "real"), 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, newStore(t, filepath.Join(dir, "real", "x.state")), 0, 1)
	link := filepath.Join(dir, "berth.state")
	if err := os.Symlink("real/x.state", link); err != nil {
		t.Fatal(err)
	}
	run(t, newStore(t, link), 1, 2)
	info, err := os.Lstat(link)
	if err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v, %v", info.Mode(), err)
	}
	s, err := statefile.Read(t.Context(), newStore(t, filepath.Join(dir, "real", "x.state")))
	if err != nil || len(s.Pods) != 2 {
		t.Errorf("%v, want two pods behind the link", err)
	}
}

func TestRemovedLockFileIsALostLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "berth.state")
	s := newStore(t, path)
	f := open(t, s)
	if err := f.Begin(statetest.Step(0)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path + ".lock"); err != nil {
		t.Fatal(err)
	}
	g := open(t, s) // somebody else now has what he believes to be the lock
	for name, err := range map[string]error{"Done": f.Done(statetest.Step(0), statetest.Delta(0)), "Close": f.Close(t.Context())} {
		if !errors.Is(err, statefile.ErrLockLost) {
			t.Errorf("%s: %v, want ErrLockLost", name, err)
		}
	}
	if f.Context().Err() == nil {
		t.Error("the work goes on without a lock")
	}
	if err := g.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestLockFileOfACrashedMachine(t *testing.T) {
	t.Parallel()
	for _, left := range []string{"", "{\"Fen", "\x00\x00\x00\x00", "null", "{\"Fence\":9,\"ID\":\"old\",\"Who\":\"ann@ws1\"}"} {
		path := filepath.Join(t.TempDir(), "berth.state")
		if err := os.WriteFile(path+".lock", []byte(left), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, newStore(t, path), 0, 1)
	}
}

func TestFenceSurvivesALostLockFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "berth.state")
	s := newStore(t, path)
	var last uint64
	for n := range 4 {
		f := open(t, s)
		if f.Fence() <= last {
			t.Errorf("fencing number %d after %d", f.Fence(), last)
		}
		last = f.Fence()
		if err := errors.Join(f.Begin(statetest.Step(n)), f.Close(t.Context()), os.Remove(path+".lock")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	abs := filepath.Join(dir, "elsewhere", "x.state")
	for _, tt := range []struct {
		config map[string]string
		want   string
	}{
		{nil, filepath.Join(dir, "berth.state")},
		{map[string]string{"path": "sub/a.state"}, filepath.Join(dir, "sub/a.state")},
		{map[string]string{"path": abs}, abs},
		{map[string]string{"path": ""}, ""},
		{map[string]string{"path": ".."}, ""},
	} {
		s, err := local.Open(tt.config, dir)
		if (err != nil) != (tt.want == "") {
			t.Errorf("%v: %v", tt.config, err)
			continue
		}
		if err == nil && s.(*local.Store).Names().State != tt.want {
			t.Errorf("%v: %s, want %s", tt.config, s.(*local.Store).Names().State, tt.want)
		}
	}
}

func TestMissingDirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "none")
	s := newStore(t, filepath.Join(dir, "berth.state"))
	if st, err := statefile.Read(t.Context(), s); err != nil || st.Serial != 0 {
		t.Errorf("Read: %v", err)
	}
	_, err := statefile.Open(t.Context(), s, statefile.LockInfo{}, statefile.OpenOptions{})
	want := api.Diagnostics{{Severity: api.SeverityError, Summary: "State directory cannot be used",
		Detail: fmt.Sprintf(`open %[1]s/berth.state.lock: no such file or directory. Create the directory %[1]s, or keep the state elsewhere with path in the backend "local" block.`, dir)}}
	if diff := cmp.Diff(want, api.DiagnosticsOf(err, "other")); diff != "" {
		t.Error(diff)
	}
}
