package clusterdns

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"berth.dev/berth/api"
)

// TestNumber: what the servers do is this folder and the libraries that it is made of. Where that changes, servers of an older build stay as they are
// unless the number grows. Raise api.DNSServerNumber if they have to be replaced, and run this test with -update.
func TestNumber(t *testing.T) {
	t.Parallel()
	const file = "testdata/number.txt"
	sum := sha256.New()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(sum, "%s %d\n%s", f, len(text), text)
	}
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mod)) {
		if strings.Contains(line, "coredns") || strings.Contains(line, "miekg/dns") {
			fmt.Fprint(sum, line)
		}
	}
	now := fmt.Sprintf("%d %s\n", api.DNSServerNumber, hex.EncodeToString(sum.Sum(nil))[:16])
	if *update {
		if err := os.WriteFile(file, []byte(now), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	was, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(was) != now {
		t.Errorf("the server has changed: %s is %q, and would be %q. If servers that run have to be replaced by it, raise api.DNSServerNumber; then run with -update", file, was, now)
	}
}
