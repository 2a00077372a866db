package lab

import (
	"strings"
	"testing"
)

func TestConfigComplete(t *testing.T) {
	tests := []struct {
		name string
		c    Config
		bad  string // part of the error; empty when good
	}{
		{"defaults", Config{Nodes: 3}, ""},
		{"no nodes", Config{}, "1 to 200 nodes"},
		{"too many", Config{Nodes: 201}, "1 to 200 nodes"},
		{"name with a slash", Config{Nodes: 1, Name: "../x"}, "lower-case letters"},
		{"root as the extra user", Config{Nodes: 1, User: "root"}, "other than root"},
		{"folder with a colon", Config{Nodes: 1, Dir: "/a:b"}, "mount options"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.c.complete()
			if tt.bad == "" {
				if err != nil || got.Name != "lab" || got.Dir != DefaultDir || got.Log == nil {
					t.Errorf("got %+v, %v", got, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.bad) {
				t.Errorf("error %v, want %q in it", err, tt.bad)
			}
		})
	}
}

func TestWithEntry(t *testing.T) {
	tests := []struct{ name, file, want string }{
		{"added", "root:x:0:\nops:x:7:\n", "root:x:0:\nops:x:7:\nop:x:9:\n"},
		{"replaced", "op:x:5:\nroot:x:0:", "root:x:0:\nop:x:9:\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(withEntry([]byte(tt.file), "op", "op:x:9:")); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestFreeID(t *testing.T) {
	if got := freeID("a:x:1000:1000::/:\nb:x:5:5::/:\n", "g:x:1001:\n"); got != 1002 {
		t.Errorf("got %d, want 1002", got)
	}
}
