package image

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// pauseCode is the whole sandbox program per architecture: it ignores SIGCHLD, so that the kernel reaps the
// children that a shared process namespace hands to it, and sleeps for ever. containerd ends it by SIGKILL.
var pauseCode = map[string]machine{
	"amd64": {elf: 62, code: []byte{
		0xb8, 13, 0, 0, 0, //             mov  eax, 13            rt_sigaction(
		0xbf, 17, 0, 0, 0, //             mov  edi, 17              SIGCHLD,
		0x48, 0x8d, 0x35, 23, 0, 0, 0, // lea  rsi, [rip+23]        &act,
		0x31, 0xd2, //                    xor  edx, edx             NULL,
		0x41, 0xba, 8, 0, 0, 0, //        mov  r10d, 8              8)
		0x0f, 0x05, //                    syscall
		0xb8, 34, 0, 0, 0, //       loop: mov  eax, 34            pause()
		0x0f, 0x05, //                    syscall
		0xeb, 0xf7, //                    jmp  loop
		0, 0, 0, 0, //                    (align)
		1, 0, 0, 0, 0, 0, 0, 0, //  act:  SIG_IGN, no flags, no restorer, empty mask
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	}},
	"arm64": {elf: 183, code: words(
		0xd2800220,             //       mov  x0, 17            rt_sigaction(SIGCHLD,
		0x100001a1,             //       adr  x1, act             &act,
		0xd2800002,             //       mov  x2, 0               NULL,
		0xd2800103,             //       mov  x3, 8               8)
		0xd28010c8,             //       mov  x8, 134
		0xd4000001,             //       svc  0
		0xd2800000,             // loop: mov  x0, 0             ppoll(NULL, 0, NULL, NULL)
		0xd2800001,             //       mov  x1, 0
		0xd2800002,             //       mov  x2, 0
		0xd2800003,             //       mov  x3, 0
		0xd2800928,             //       mov  x8, 73
		0xd4000001,             //       svc  0
		0x17fffffa,             //       b    loop
		0,                      //       (align)
		1, 0, 0, 0, 0, 0, 0, 0, // act: SIG_IGN, no flags, no restorer, empty mask
	)},
}

type machine struct {
	elf  uint16 // e_machine
	code []byte
}

func words(ws ...uint32) []byte {
	var b []byte
	for _, w := range ws {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}

// pauseProgram wraps the code in the smallest static ELF file.
func pauseProgram(arch string) ([]byte, error) {
	m, ok := pauseCode[arch]
	if !ok {
		return nil, fmt.Errorf("there is no sandbox program for architecture %q", arch)
	}
	const base, header, program = 0x400000, 64, 56
	size := uint64(header + program + len(m.code))
	b := []byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	le := binary.LittleEndian
	b = le.AppendUint16(b, 2) // an executable
	b = le.AppendUint16(b, m.elf)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, base+header+program) // entry
	b = le.AppendUint64(b, header)              // program headers
	b = le.AppendUint64(b, 0)                   // no sections
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{header, program, 1, 0, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	b = le.AppendUint32(b, 1) // load
	b = le.AppendUint32(b, 5) // read, execute
	for _, v := range []uint64{0, base, base, size, size, 0x1000} {
		b = le.AppendUint64(b, v)
	}
	return append(b, m.code...), nil
}

// pauseImage returns the sandbox image for an architecture; the same bytes at every call.
func pauseImage(arch string) (v1.Image, error) {
	program, err := pauseProgram(arch)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	if err := tw.WriteHeader(&tar.Header{Name: "pause", Mode: 0o755, Size: int64(len(program)), Format: tar.FormatPAX}); err != nil {
		return nil, err
	}
	if _, err := tw.Write(program); err != nil {
		return nil, err
	}
	if err := tw.Close(); err != nil {
		return nil, err
	}
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		OS: "linux", Architecture: arch, Config: v1.Config{Entrypoint: []string{"/pause"}, User: "65535:65535"},
		RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{}},
	})
	if err != nil {
		return nil, err
	}
	img, err = mutate.AppendLayers(img, static.NewLayer(buf.Bytes(), types.OCIUncompressedLayer))
	if err != nil {
		return nil, err
	}
	img = mutate.MediaType(img, types.OCIManifestSchema1)
	return mutate.ConfigMediaType(img, types.OCIConfigJSON), nil
}
