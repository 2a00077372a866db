package clusterdns

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// asked is what somebody hears at a port: "" when nobody answers.
func asked(port int) string {
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	var same bytes.Buffer
	if err := json.Compact(&same, text); err != nil {
		return err.Error()
	}
	return fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("X-Load-Balancing-Endpoint-Weight"), " ", same.String())
}

// Health check ports say what the newest rules say: they come, change, move to another service and go with them.
func TestHealth(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	rules := func(name string, port, pods int) string {
		return fmt.Sprintf("# berth dev/%s 0123456789abcdef\n# health %d %d\n# udp 10.96.0.1 53 10.244.0.1\n*nat\nCOMMIT\n", name, port, pods)
	}
	says := func(name string, port, pods, status int) {
		t.Helper()
		want := fmt.Sprintf(`%d %d {"service":{"namespace":"dev","name":"%s"},"localEndpoints":%d,"serviceProxyHealthy":true}`, status, pods, name, pods)
		until(t, want, func() bool { return asked(port) == want })
	}
	silent := func(port int) {
		t.Helper()
		until(t, "silence", func() bool { return asked(port) == "" })
	}
	one, two, three := freePort(t), freePort(t), freePort(t)
	plain := "# berth dev/plain 0123456789abcdef\n# udp 10.96.0.1 53 " + strings.Repeat("10.244.0.1 ", 10_000) + "\n*nat\nCOMMIT\n"
	write("01.rules", plain+rules("web", one, 2))

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	var said bytes.Buffer
	go func() {
		h := &health{path: dir, log: slog.New(slog.NewTextHandler(&said, nil))}
		ended <- h.follow(ctx)
	}()
	says("web", one, 2, http.StatusOK)
	write("01.rules", rules("web", one, 0)+plain)
	says("web", one, 0, http.StatusServiceUnavailable)
	write("01.rules", rules("web", two, 1))
	says("web", two, 1, http.StatusOK)
	silent(one)
	write("02.rules", rules("api", two, 3)) // before the other has given it up
	says("api", two, 3, http.StatusOK)
	write("01.rules", rules("web", one, 1))
	says("web", one, 1, http.StatusOK)
	says("api", two, 3, http.StatusOK)
	write("01.rules", rules("web", one, 1)+plain+rules("shop", three, 4))
	says("shop", three, 4, http.StatusOK)
	says("web", one, 1, http.StatusOK)
	if err := os.Remove(filepath.Join(dir, "02.rules")); err != nil {
		t.Fatal(err)
	}
	silent(two)
	write("01.rules", plain+rules("shop", three, 5)) // one of a file's services goes
	says("shop", three, 5, http.StatusOK)
	silent(one)
	write("01.rules", plain)
	silent(three)
	cancel()
	if err := <-ended; err != nil || said.Len() > 0 {
		t.Errorf("ended with %v, and said %q", err, said.String())
	}
}

// FuzzHealth reads what may stand at the top of a file of rules.
func FuzzHealth(f *testing.F) {
	f.Add("# berth dev/web 01\n# health 30100 2\n*nat\n")
	f.Add("# health 1 2 3\n# berth\n\n")
	f.Add("# berth dev/web 01\n# health 99999999999999999999 -1\n")
	f.Fuzz(func(t *testing.T, text string) {
		checks, err := parseHealth(strings.NewReader(text))
		for _, c := range checks {
			if err != nil || c.port < 1 || c.port > 65535 || c.pods < 0 || !strings.Contains(c.key, "/") {
				t.Errorf("%q gives %+v, %v", text, c, err)
			}
		}
	})
}
