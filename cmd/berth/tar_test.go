package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth.dev/berth/cmd/berth/view"
)

// A container may send whatever it likes: nothing is written outside of the destination.
func TestUnpackStaysInside(t *testing.T) {
	t.Parallel()
	dir := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755} }
	file := func(name string) tar.Header {
		return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: 4}
	}
	link := func(name, to string) tar.Header {
		return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}
	}
	tests := []struct {
		name    string
		headers []tar.Header
		err     string
	}{
		{"a plain one", []tar.Header{dir("d"), file("d/x"), link("d/l", "/etc/passwd")}, ""},
		{"up", []tar.Header{dir("d"), file("d/../../evil")}, "does not belong"},
		{"absolute", []tar.Header{file("/evil")}, "does not belong"},
		{"beside", []tar.Header{dir("d"), file("evil")}, "does not belong"},
		{"before its directory", []tar.Header{file("d/x")}, "before its directory"},
		{"through a link up", []tar.Header{dir("d"), link("d/up", "../.."), file("d/up/evil")}, "escapes"},
		{"through an absolute link", []tar.Header{dir("d"), link("d/root", "OUTSIDE"), file("d/root/evil")}, "escapes"},
		{"through a link that stands for the directory", []tar.Header{link("d", "OUTSIDE"), file("d/evil")}, "before its directory"},
		{"a directory where a link is", []tar.Header{dir("d"), link("d/root", "OUTSIDE"), dir("d/root")}, "not a directory"},
		{"a hard link to outside", []tar.Header{dir("d"), {Typeflag: tar.TypeLink, Name: "d/h", Linkname: "OUTSIDE/secret"}}, "hard link"},
		{"over a link", []tar.Header{dir("d"), link("d/l", "OUTSIDE/secret"), file("d/l")}, ""},
		{"over a directory", []tar.Header{dir("d"), dir("d/x"), file("d/x")}, "directory of this name"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			outside, to := t.TempDir(), t.TempDir()
			if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			for _, h := range tt.headers {
				h.Linkname = strings.Replace(h.Linkname, "OUTSIDE", outside, 1)
				if err := w.WriteHeader(&h); err != nil {
					t.Fatal(err)
				}
				if h.Size > 0 {
					if _, err := io.WriteString(w, "evil"); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			var words bytes.Buffer
			err := unpack(&b, filepath.Join(to, "here"), "d", view.Stream{W: &words})
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("got %v, want %q", err, tt.err)
			}
			if got, err := os.ReadFile(filepath.Join(outside, "secret")); err != nil || string(got) != "old" {
				t.Errorf("the file outside is %q, %v", got, err)
			}
			for _, dir := range []string{outside, to, filepath.Dir(to)} {
				if _, err := os.Lstat(filepath.Join(dir, "evil")); err == nil {
					t.Errorf("there is something evil in %s", dir)
				}
			}
		})
	}
}

func TestParsePlace(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in   string
		want place
		err  bool
	}{
		{"file", place{path: "file"}, false},
		{"./a:b", place{path: "./a:b"}, false},
		{"/x/y:z", place{path: "/x/y:z"}, false},
		{"web-1:/x", place{"default", "web-1", "/x"}, false},
		{"dev/web-1:x", place{"dev", "web-1", "x"}, false},
		{"deployment.web/web-1:/x", place{"default", "deployment.web/web-1", "/x"}, false},
		{"deploy/web:/x", place{"default", "deploy/web", "/x"}, false},
		{"web-1:", place{}, true},
		{":x", place{}, true},
		{"", place{}, true},
		{"a/b/c:/x", place{}, true},
	}
	for _, tt := range tests {
		got, err := parsePlace(tt.in, "default")
		if (err != nil) != tt.err || err == nil && got != tt.want {
			t.Errorf("%q: %+v, %v", tt.in, got, err)
		}
	}
}

func TestParsePort(t *testing.T) {
	t.Parallel()
	tests := []struct{ in, want string }{
		{"80", "0 true 80"}, {"8080:80", "8080 false 80"}, {":80", "0 false 80"}, {"0:80", "0 false 80"}, {"http", "0 true http"}, {":http", "0 false http"},
		{"", "error"}, {"0", "error"}, {"65536", "error"}, {"70000:80", "error"}, {"x:80", "error"}, {"1:2:3", "error"}, {"80:", "error"}, {"-1", "error"},
	}
	for _, tt := range tests {
		p, err := parsePort(tt.in)
		got := fmt.Sprint(p.local, p.same, " ", p.remote.String())
		if err != nil {
			got = "error"
		}
		if got != tt.want {
			t.Errorf("%q: %s, want %s (%v)", tt.in, got, tt.want, err)
		}
	}
}
