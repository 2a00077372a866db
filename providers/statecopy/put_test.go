package statecopy

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A host that cannot take a new copy keeps the one before, with nothing of the new one beside it, and one without a mark says so.
func TestPutScript(t *testing.T) {
	for _, tt := range []struct {
		name, before, mark string
		ok                 bool
		status             int // 0 for any
		want               string
		lacks              int // bytes that do not arrive
	}{
		{"taken", "", "marked", true, 0, strings.Repeat("new", 4096), 0},
		{"cut short", "", "marked", false, 0, "old", 1},
		{"no mark", "", "", false, unmarked, "old", 0},
		{"no room", "ulimit -f 1\n", "marked", false, 0, "old", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			file, mark := filepath.Join(dir, "copy"), filepath.Join(dir, "mark")
			for name, text := range map[string]string{file: "old", mark: tt.mark} {
				if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c := exec.Command("sh", "-c", tt.before+putScript, "sh", file, mark, fmt.Sprint(3*4096+tt.lacks))
			c.Stdin = strings.NewReader(strings.Repeat("new", 4096))
			out, err := c.CombinedOutput()
			if (err == nil) != tt.ok || tt.status != 0 && c.ProcessState.ExitCode() != tt.status {
				t.Errorf("it ended with %v: %s", err, out)
			}
			if got, err := os.ReadFile(file); err != nil || string(got) != tt.want {
				t.Errorf("the copy has %d bytes: %v", len(got), err)
			}
			if _, err := os.Stat(file + ".new"); !os.IsNotExist(err) {
				t.Errorf("a part of a copy is left: %v", err)
			}
		})
	}
}
