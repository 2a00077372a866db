package image

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"berth.dev/berth/api"
)

// machines are what programs say in their header, by architecture.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// program finds this program as it runs on a platform: the file that runs now, or the one that lies beside it with the platform in its
// name, "berth-linux-arm64". An image made from nothing holds no libraries, so it must need none.
func (b *Builder) program(p *v1.Platform) (string, error) {
	path := b.opts.Program
	if path == "" {
		var err error
		if path, err = os.Executable(); err != nil {
			return "", err
		}
	}
	beside := filepath.Join(filepath.Dir(path), "berth-"+p.OS+"-"+p.Architecture)
	err := runsAlone(path, p.Architecture)
	if err == nil {
		return path, nil
	}
	switch other := runsAlone(beside, p.Architecture); {
	case other == nil:
		return beside, nil
	case !errors.Is(other, fs.ErrNotExist):
		err = other
	}
	return "", fmt.Errorf("%w. Put a build for %s/%s (CGO_ENABLED=0 GOOS=%s GOARCH=%s go build) at %s, or name it in BERTH_PROGRAM",
		err, p.OS, p.Architecture, p.OS, p.Architecture, beside)
}

// runsAlone reports why a file is no Linux program for an architecture that needs nothing but the kernel.
func runsAlone(path, arch string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	program, err := elf.NewFile(f)
	if err != nil {
		return fmt.Errorf("%s is no program for Linux", path)
	}
	if program.Machine != machines[arch] {
		return fmt.Errorf("%s is not for %s", path, arch)
	}
	if slices.ContainsFunc(program.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return fmt.Errorf("%s needs libraries of the system that it runs on: it was built with cgo", path)
	}
	return nil
}

// carriesProgram reports whether an image holds this program.
func carriesProgram(img *api.Image) bool {
	return slices.ContainsFunc(img.Spec.Copy, func(c api.ImageCopy) bool { return c.From == api.ProgramSource })
}
