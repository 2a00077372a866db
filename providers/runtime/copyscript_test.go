package runtime

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/internal/lab/labtest"
	"berth.dev/berth/providers/internal/testimage"
)

// confined is a process in a file system of its own, as a container's is.
type confined struct {
	root string
	pid  int
}

func confine(t *testing.T, uid uint32) *confined {
	t.Helper()
	root := t.TempDir()
	program, err := os.ReadFile(testimage.Spec(t).Spec.Copy[0].From)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "program"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	for dir := root; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) { // another user has to get there
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("/program", "sleep")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return &confined{root, cmd.Process.Pid}
}

// languages are those that the helper is written in.
var languages = map[string][]string{"perl": {"perl", "-e", copyPerl}, "python": {"python3", "-c", copyPython}}

// help runs the helper; "" is part of every cgroup's name.
func (c *confined) help(t *testing.T, language string, in io.Reader, args ...string) (out []byte, errs string, err error) {
	t.Helper()
	l := languages[language]
	cmd := exec.CommandContext(t.Context(), l[0], append(slices.Clone(l[1:]), append([]string{fmt.Sprint(c.pid), ""}, args...)...)...)
	var e bytes.Buffer
	cmd.Stdin, cmd.Stderr = in, &e
	out, err = cmd.Output()
	return out, e.String(), err
}

func (c *confined) put(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	file := filepath.Join(c.root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
}

// listing is what a tar stream holds.
func listing(t *testing.T, b []byte) []string {
	t.Helper()
	var out []string
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, strings.TrimSpace(fmt.Sprintf("%c %04o %d %s %s%s", h.Typeflag, h.Mode, h.Uid, h.Name, text, h.Linkname)))
	}
}

func TestCopyHelper(t *testing.T) {
	labtest.RequireRoot(t, "only root can confine a process")
	long := strings.Repeat("n", 140)
	for language := range languages {
		t.Run(language, func(t *testing.T) {
			c := confine(t, 0)
			c.put(t, "data/a", "text of a", 0o640)
			c.put(t, "data/sub/"+long, "long", 0o755|os.ModeSetuid)
			for name, to := range map[string]string{"link": "a", "out": "/etc/hostname", "far": "/" + long + "/" + long} {
				if err := os.Symlink(to, filepath.Join(c.root, "data", name)); err != nil {
					t.Fatal(err)
				}
			}
			if err := syscall.Mkfifo(filepath.Join(c.root, "data/pipe"), 0o600); err != nil {
				t.Fatal(err)
			}
			out, errs, err := c.help(t, language, nil, "read", "/", "data")
			want := []string{
				"5 0755 0 data/", "0 0640 0 data/a text of a", "2 0777 0 data/far /" + long + "/" + long, "2 0777 0 data/link a", "2 0777 0 data/out /etc/hostname",
				"5 0755 0 data/sub/", "0 4755 0 data/sub/" + long + " long",
			}
			if diff := cmp.Diff(want, listing(t, out)); diff != "" || err != nil || !strings.Contains(errs, "/data/pipe: not a file") {
				t.Errorf("%v %s (-want +got):\n%s", err, errs, diff)
			}
			if _, errs, err := c.help(t, language, nil, "read", "/data/out/", "x"); err == nil || !strings.Contains(errs, "/data/out/x") {
				t.Errorf("through a link to this machine: %v %s", err, errs)
			}
			for p, want := range map[string]string{"/data": "dir", "/data/link": "other", "/nothing": "other"} {
				if out, _, err := c.help(t, language, nil, "test", p, ""); err != nil || strings.TrimSpace(string(out)) != want {
					t.Errorf("test %s: %q, %v", p, out, err)
				}
			}
			back := bytes.NewReader(out)
			if err := os.Mkdir(filepath.Join(c.root, "copy"), 0o755); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time over the first
				if _, err := back.Seek(0, io.SeekStart); err != nil {
					t.Fatal(err)
				}
				if _, errs, err := c.help(t, language, back, "write", "/copy", "preserve"); err != nil {
					t.Fatalf("%v %s", err, errs)
				}
			}
			again, errs, err := c.help(t, language, nil, "read", "/copy", "data")
			if diff := cmp.Diff(want, listing(t, again)); diff != "" || err != nil {
				t.Errorf("written and read again: %v %s (-want +got):\n%s", err, errs, diff)
			}
			if _, errs, err := c.help(t, language, bytes.NewReader(out[:1500]), "write", "/copy", "preserve"); err == nil || !strings.Contains(errs, "ends early") {
				t.Errorf("half a stream: %v %s", err, errs)
			}
			if _, errs, err := c.help(t, language, bytes.NewReader(out), "write", "/none", "preserve"); err == nil || !strings.Contains(errs, "/none: No such file or directory") {
				t.Errorf("into nowhere: %v %s", err, errs)
			}
		})
		t.Run(language+" as another user", func(t *testing.T) {
			c := confine(t, 4711)
			c.put(t, "secret", "root's", 0o600)
			c.put(t, "own/x", "x", 0o644)
			if err := os.Chown(filepath.Join(c.root, "own"), 4711, 4711); err != nil {
				t.Fatal(err)
			}
			if _, errs, err := c.help(t, language, nil, "read", "/", "secret"); err == nil || !strings.Contains(errs, "Permission denied") {
				t.Errorf("what the container may not read was read: %v %s", err, errs)
			}
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			if err := w.WriteHeader(&tar.Header{Name: "new", Mode: 0o666, Uid: 0, Size: 3, Typeflag: tar.TypeReg, Format: tar.FormatGNU}); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(w, "new"); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if _, errs, err := c.help(t, language, bytes.NewReader(b.Bytes()), "write", "/own", "plain"); err != nil {
				t.Fatalf("%v %s", err, errs)
			}
			info, err := os.Stat(filepath.Join(c.root, "own/new"))
			if err != nil || info.Sys().(*syscall.Stat_t).Uid != 4711 || info.Mode().Perm() != 0o644 {
				t.Errorf("written as %v, %v", info, err)
			}
			if _, errs, err := c.help(t, language, bytes.NewReader(b.Bytes()), "write", "/", "plain"); err == nil || !strings.Contains(errs, "Permission denied") {
				t.Errorf("what the container may not write was written: %v %s", err, errs)
			}
		})
	}
}
