package network

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

// copyHost runs copySight alone, on a file of this machine.
type copyHost struct {
	providers.Host
	file string
}

func (h copyHost) Run(ctx context.Context, _ providers.Command) (providers.Output, error) {
	c := exec.CommandContext(ctx, "sh", "-c", "berth_copy=$1\n"+copySight, "sh", h.file)
	out, err := c.Output()
	return providers.Output{Stdout: out}, err
}

// A host keeps a copy, or what is left of one, or none: these are three things.
func TestCopySight(t *testing.T) {
	body := bytes.Repeat([]byte{0, 1, '\n', 255}, 1000)
	sum := fmt.Sprintf("%x", sha256.Sum256(body))
	file := func(serial, sum string) []byte {
		return append([]byte("berth-copy 1 3f2c "+serial+" 12 "+sum+"\n"), body...)
	}
	for _, tt := range []struct {
		name    string
		text    []byte // nil for no file
		serial  uint64
		damaged bool
	}{
		{"none", nil, 0, false},
		{"whole", file("41", sum), 41, false},
		{"another sum", file("41", "00"+sum[2:]), 0, true},
		{"cut short", file("41", sum)[:200], 0, true},
		{"no serial", file("x", sum), 0, true},
		{"something else", []byte("damaged\n"), 0, true},
		{"bytes", body, 0, true},
		{"empty", []byte{}, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := copyHost{file: filepath.Join(t.TempDir(), "copy")}
			if tt.text != nil {
				if err := os.WriteFile(h.file, tt.text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var obs api.NodeObservation
			if err := new(Provider).Observe(t.Context(), h, &obs); err != nil {
				t.Fatal(err)
			}
			if obs.Copy != tt.serial || obs.CopyDamaged != tt.damaged {
				t.Errorf("serial %d, damaged %v, want %d, %v", obs.Copy, obs.CopyDamaged, tt.serial, tt.damaged)
			}
		})
	}
}
