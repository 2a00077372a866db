package providers

import "testing"

func TestDiskFull(t *testing.T) {
	t.Parallel()
	for said, want := range map[string]bool{
		"tar: a: Cannot write: No space left on device":   true,
		"tar: a: Wrote only 7168 of 10240 bytes":          true,
		"sh: cannot create /var/lib/x: Permission denied": false,
		"": false,
	} {
		if got := (&ExitError{Stderr: said}).DiskFull(); got != want {
			t.Errorf("%q: %v", said, got)
		}
	}
}
