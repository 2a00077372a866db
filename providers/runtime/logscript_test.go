package runtime

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// shells are those that hosts have as sh.
func shells(t *testing.T) []string {
	var found []string
	for _, name := range []string{"dash", "bash"} {
		if path, err := exec.LookPath(name); err == nil {
			found = append(found, path)
		}
	}
	if len(found) == 0 {
		t.Fatal("no shell to test with")
	}
	return found
}

func entries(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "2026-01-02T15:04:05.%09dZ stdout F line %d\n", i, i)
	}
	return b.String()
}

func packed(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestLogScriptReadsRotatedFiles(t *testing.T) {
	t.Parallel()
	long := "2026-01-02T15:04:05Z stdout P begin \n2026-01-02T15:04:05Z stdout P middle \n2026-01-02T15:04:05Z stdout F end\n"
	rotated := map[string]string{
		".20260101-000000.gz": packed(t, entries(0, 10)), ".20260102-000000.gz": packed(t, entries(10, 20)), ".20260102-000000": entries(10, 20),
		".20260103-000000": entries(20, 30), ".20260103-000000.gz.tmp": "half of it", "": entries(30, 35) + long + entries(35, 36),
	}
	all := entries(0, 35) + long + entries(35, 36)
	tests := []struct {
		name, lines, since string
		files              map[string]string
		want               string
	}{
		{"all", "all", "0", rotated, all},
		{"none", "0", "0", rotated, ""},
		{"the last", "1", "0", rotated, entries(35, 36)},
		{"a line in parts is one", "2", "0", rotated, long + entries(35, 36)},
		{"within the file", "3", "0", rotated, entries(34, 35) + long + entries(35, 36)},
		{"exactly the file", "7", "0", rotated, entries(30, 35) + long + entries(35, 36)},
		{"beyond it", "8", "0", rotated, entries(29, 35) + long + entries(35, 36)},
		{"into what is compressed", "30", "0", rotated, entries(7, 35) + long + entries(35, 36)},
		{"more than there is", "1000", "0", rotated, all},
		{"since after the older ones", "all", "1767400000", rotated, entries(20, 35) + long + entries(35, 36)},
		{"no file", "all", "0", nil, ""},
		{"no file, some lines", "5", "0", nil, ""},
		{"an empty file", "5", "0", map[string]string{"": ""}, ""},
		{"just rotated", "3", "0", map[string]string{"": "", ".20260103-000000": entries(0, 9)}, entries(6, 9)},
		{"between rename and reopen", "3", "0", map[string]string{".20260103-000000": entries(0, 9)}, entries(6, 9)},
	}
	mtimes := map[string]int64{".20260101-000000.gz": 1767225600, ".20260102-000000.gz": 1767312000, ".20260102-000000": 1767312000, ".20260103-000000": 1767400000}
	for _, shell := range shells(t) {
		for _, tt := range tests {
			t.Run(filepath.Base(shell)+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				base := filepath.Join(t.TempDir(), "0.log")
				for suffix, text := range tt.files {
					if err := os.WriteFile(base+suffix, []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
					if at, ok := mtimes[suffix]; ok {
						if err := os.Chtimes(base+suffix, time.Unix(at, 0), time.Unix(at, 0)); err != nil {
							t.Fatal(err)
						}
					}
				}
				cmd := exec.CommandContext(t.Context(), shell, "-c", logScript, "sh", base, tt.lines, "", tt.since)
				var errs bytes.Buffer
				cmd.Stderr = &errs
				out, err := cmd.Output()
				if err != nil || errs.Len() > 0 {
					t.Errorf("%v: %s", err, &errs)
				}
				if diff := cmp.Diff(tt.want, string(out)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	}
}

// A reader that is slow, and stands still while the log is rotated more than once, gets every line once.
func TestLogScriptFollows(t *testing.T) {
	t.Parallel()
	for _, shell := range shells(t) {
		t.Run(filepath.Base(shell), func(t *testing.T) {
			t.Parallel()
			base := filepath.Join(t.TempDir(), "0.log")
			f := &followed{base: base}
			f.write(t, 50)
			cmd := exec.CommandContext(t.Context(), shell, "-c", logScript, "sh", base, "20", "follow", "0")
			lifeline, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			got := &followedReader{}
			read := make(chan error, 1)
			gate := make(chan struct{}, 1)
			if _, err := io.CopyN(got, out, 500); err != nil { // it has begun
				t.Fatal(err)
			}
			go func() {
				<-gate // it stands still here
				_, err := io.Copy(got, out)
				read <- err
			}()
			for range 3 {
				f.write(t, 400)
				f.rotate(t, shell)
				f.write(t, 4000) // more than the pipe holds: the reader's side is stuck in this file
				f.rotate(t, shell)
			}
			gate <- struct{}{}
			for range 5 {
				f.write(t, rand.IntN(1000))
				time.Sleep(time.Duration(rand.IntN(30)) * 10 * time.Millisecond)
				f.rotate(t, shell)
			}
			f.write(t, 7)
			if err := lifeline.Close(); err != nil {
				t.Fatal(err)
			}
			if err := <-read; err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Fatal(err)
			}
			if want := entries(30, f.n); got.String() != want {
				t.Errorf("%d bytes, want %d: %s", got.Len(), len(want), firstDifference(got.String(), want))
			}
		})
	}
}

type followedReader struct{ bytes.Buffer }

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d is %q, want %q", i, g[i], w[i])
		}
	}
	return "one ends early"
}

// followed is a log as containerd writes it: to the file that it has open.
type followed struct {
	base string
	file *os.File
	n    int
	at   time.Time
}

func (f *followed) write(t *testing.T, lines int) {
	t.Helper()
	if f.file == nil {
		f.reopen(t)
	}
	if _, err := f.file.WriteString(entries(f.n, f.n+lines)); err != nil {
		t.Fatal(err)
	}
	f.n += lines
}

func (f *followed) reopen(t *testing.T) {
	t.Helper()
	next, err := os.OpenFile(f.base, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	if f.file != nil { // what is just being written still goes to the old file
		if _, err := f.file.WriteString(entries(f.n, f.n+1)); err != nil {
			t.Fatal(err)
		}
		f.n++
		if err := f.file.Close(); err != nil {
			t.Fatal(err)
		}
	}
	f.file = next
}

func (f *followed) rotate(t *testing.T, shell string) {
	t.Helper()
	f.at = f.at.Add(time.Second)
	stamp := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(f.at.Sub(time.Time{})).Format("20060102-150405")
	if out, err := exec.CommandContext(t.Context(), shell, "-c", rotateScript, "sh", f.base, stamp, "30").CombinedOutput(); err != nil {
		t.Fatalf("rotate: %v: %s", err, out)
	}
	f.reopen(t)
	compress(t, shell, f.base, stamp)
}

func compress(t *testing.T, shell, base, stamp string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), shell, "-c", compressScript, "sh", base, stamp).CombinedOutput(); err != nil {
		t.Fatalf("compress: %v: %s", err, out)
	}
}

func TestRotateScriptKeepsAFew(t *testing.T) {
	t.Parallel()
	for _, shell := range shells(t) {
		dir := t.TempDir()
		f := &followed{base: filepath.Join(dir, "0.log")}
		for i, left := range []string{"0.log.20260102-030409.gz.tmp", "0.log.20260102-030407.gz"} { // of one that was killed
			if err := os.WriteFile(filepath.Join(dir, left), []byte{byte(i)}, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 6 {
			f.write(t, 10)
			f.at = time.Time{}.Add(time.Duration(i) * time.Second)
			stamp := fmt.Sprintf("20260102-03040%d", i)
			if out, err := exec.CommandContext(t.Context(), shell, "-c", rotateScript, "sh", f.base, stamp, "3").CombinedOutput(); err != nil {
				t.Fatalf("rotate: %v: %s", err, out)
			}
			f.reopen(t)
			compress(t, shell, f.base, stamp)
			if i == 0 { // the file that was compressed and not deleted belongs to no file any more
				if err := os.Remove(filepath.Join(dir, "0.log.20260102-030407.gz")); err != nil {
					t.Fatal(err)
				}
			}
		}
		var names []string
		list, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			names = append(names, e.Name())
		}
		want := []string{"0.log", "0.log.20260102-030402.gz", "0.log.20260102-030403.gz", "0.log.20260102-030404.gz", "0.log.20260102-030405"}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("%s (-want +got):\n%s", shell, diff)
		}
		if out, err := exec.CommandContext(t.Context(), shell, "-c", rotateScript, "sh", f.base, "20260102-030405", "3").CombinedOutput(); err == nil {
			t.Errorf("twice in a second: %s", out)
		}
	}
}

// Files that cannot be compressed, whatever the reason, keep no log from being rotated, and go by their number.
func TestRotateWithoutCompressing(t *testing.T) {
	t.Parallel()
	for _, shell := range shells(t) {
		dir, bin := t.TempDir(), t.TempDir()
		if err := os.WriteFile(filepath.Join(bin, "gzip"), []byte("#!/bin/sh\necho half\nexit 1\n"), 0o700); err != nil { //nolint:gosec // it has to run
			t.Fatal(err)
		}
		f := &followed{base: filepath.Join(dir, "0.log")}
		for i := range 5 {
			f.write(t, 3)
			stamp := fmt.Sprintf("20260102-03040%d", i)
			if out, err := exec.CommandContext(t.Context(), shell, "-c", rotateScript, "sh", f.base, stamp, "2").CombinedOutput(); err != nil {
				t.Fatalf("rotate: %v: %s", err, out)
			}
			f.reopen(t)
			cmd := exec.CommandContext(t.Context(), shell, "-c", compressScript, "sh", f.base, stamp)
			cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
			if err := cmd.Run(); (err == nil) != (i == 0) {
				t.Errorf("%s: compressed file %d: %v", shell, i, err)
			}
		}
		got, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		want := []string{f.base, f.base + ".20260102-030402", f.base + ".20260102-030403", f.base + ".20260102-030404"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", shell, diff)
		}
	}
}
