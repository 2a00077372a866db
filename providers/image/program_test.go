package image

import (
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"berth.dev/berth/api"
)

// writeProgram writes the header of a program for a machine; one that needs an interpreter is linked to libraries.
func writeProgram(t *testing.T, path string, m elf.Machine, interpreter bool) {
	t.Helper()
	b := make([]byte, 64+56)
	copy(b, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint16(b[16:], uint16(elf.ET_EXEC))
	le.PutUint16(b[18:], uint16(m))
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[32:], 64) // program headers
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 1)
	le.PutUint16(b[58:], 64)
	le.PutUint32(b[64:], uint32(elf.PT_LOAD))
	if interpreter {
		le.PutUint32(b[64:], uint32(elf.PT_INTERP))
	}
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
}

// An image that carries this program takes the one that runs where that is fit for the platform, else the one beside it; what is fit for
// nothing is refused with what to do.
func TestProgram(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	own := filepath.Join(dir, "berth")
	b := NewBuilder(BuilderOptions{Program: own})
	amd64, arm64 := &v1.Platform{OS: "linux", Architecture: "amd64"}, &v1.Platform{OS: "linux", Architecture: "arm64"}
	refused := func(p *v1.Platform, words ...string) {
		t.Helper()
		path, err := b.program(p)
		if err == nil {
			t.Fatalf("%s was taken for %s", path, p)
		}
		for _, w := range append(words, "berth-linux-"+p.Architecture, "BERTH_PROGRAM") {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q is missing in: %v", w, err)
			}
		}
	}
	if err := os.WriteFile(own, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	refused(amd64, "is no program for Linux")
	writeProgram(t, own, elf.EM_X86_64, true)
	refused(amd64, "needs libraries")
	writeProgram(t, own, elf.EM_X86_64, false)
	refused(arm64, "is not for arm64")
	if path, err := b.program(amd64); err != nil || path != own {
		t.Errorf("%q, %v; want the program itself", path, err)
	}
	beside := filepath.Join(dir, "berth-linux-arm64")
	writeProgram(t, beside, elf.EM_AARCH64, false)
	if path, err := b.program(arm64); err != nil || path != beside {
		t.Errorf("%q, %v; want the one beside it", path, err)
	}

	img := &api.Image{Spec: api.ImageSpec{Base: "scratch", Platform: "linux/amd64", Copy: []api.ImageCopy{{Name: "/berth", From: api.ProgramSource, Mode: "0755"}}}}
	img.Name = "berth-dns"
	checked, err := b.Check(t.Context(), img)
	if err != nil || !strings.HasSuffix(checked, strings.Repeat("0", 64)) {
		t.Errorf("checked as %q, %v", checked, err)
	}
	first, err := b.Build(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := b.Build(t.Context(), img); err != nil || again != first {
		t.Errorf("the same program gives %q, %v; before %q", again, err, first)
	}
	if err := os.WriteFile(own, append(must(os.ReadFile(own)), 0), 0o755); err != nil {
		t.Fatal(err)
	}
	if other, err := b.Build(t.Context(), img); err != nil || other == first {
		t.Errorf("another program gives %q, %v", other, err)
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
