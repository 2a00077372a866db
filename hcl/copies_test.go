package hcl

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStateCopies(t *testing.T) {
	for _, tt := range []struct {
		text, wrong string
		want        int
	}{
		{"", "", 3},
		{"state_copies = 0", "", 0},
		{"state_copies = 100", "", 100},
		{"state_copies = null", "", 3},
		{"state_copies = 101", "a whole number from 0", 3},
		{"state_copies = -1", "a whole number from 0", 3},
		{"state_copies = 1.5", "a whole number from 0", 3},
		{`state_copies = "many"`, "a number is required", 3},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "main.hcl"), fmt.Appendf(nil, "berth {\n  %s\n}\n", tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		m, diags := Parse(dir)
		said := fmt.Sprint(diags)
		if diags.HasErrors() != (tt.wrong != "") || !strings.Contains(said, tt.wrong) {
			t.Errorf("%q: %s", tt.text, said)
		}
		if !diags.HasErrors() && m.StateCopies() != tt.want {
			t.Errorf("%q: %d copies, want %d", tt.text, m.StateCopies(), tt.want)
		}
	}
}
