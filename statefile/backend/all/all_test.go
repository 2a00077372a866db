package all_test

import (
	"path/filepath"
	"testing"

	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/all"
)

func TestOpen(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, kind string
		config     map[string]string
		want       string
	}{
		{"default", "local", nil, ""},
		{"path", "local", map[string]string{"path": "x.state"}, ""},
		{"unknown kind", "floppy", nil, `backend "floppy" is not known: use local, etcd, http, postgres, s3, ssh`},
		{"unknown attributes", "local", map[string]string{"zone": "a", "bucket": "b"}, `backend "local" has no attribute "bucket": it takes path`},
		{"bad attribute", "local", map[string]string{"path": ""}, `backend "local": path "" names no file: write it as in path = "berth.state"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			store, err := all.Open(tt.kind, tt.config, dir, all.Options{})
			if tt.want != "" {
				if err == nil || err.Error() != tt.want {
					t.Errorf("got  %v\nwant %s", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := filepath.Dir(store.(statefile.Namer).Names().State); got != dir {
				t.Errorf("the state lies in %s, want %s", got, dir)
			}
		})
	}
}
