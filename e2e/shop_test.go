package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The shop of examples/shop, as it stands in the repository: three fronts on three nodes, a store whose counters
// outlive its pod, and a new release that no client notices.
func TestShop(t *testing.T) {
	s := begin(t, "")
	copyExample(t, s, "../examples/shop")
	for _, p := range []string{"web", "store"} {
		if err := build(filepath.Join(s.dir, "bin", p), "../examples/shop/"+p); err != nil {
			t.Fatal(err)
		}
	}
	s.write("lab.auto.bvars", fmt.Sprintf("inventory = %q\n", s.lab.Inventory()))
	s.says(s.apply(), "Apply complete!", "url = ")
	s.settled()

	page := s.ok("output", "--raw", "url")
	body, err := fetch(t.Context(), page)
	if err != nil || !strings.Contains(body, "Welcome to the harbour shop") || strings.Contains(body, "The store is away") {
		t.Fatalf("the page: %v\n%s", err, body)
	}
	buy(t, page, "lantern", 3)
	sold(t, page, "lantern", 3)
	ip := serviceIP(t, s, "shop", "web")
	if body := s.ok("exec", "-n", "shop", "deployment.web", "--", "/web", "get", "http://"+ip+"/"); !strings.Contains(body, "sold 3") {
		t.Errorf("from inside a pod through the service: %s", body)
	}

	load := clients(t, s.lab, 30080, "http://"+ip+"/")
	s.apply("--var", "release=1.1", "--var", "greeting=Under new management")
	noneFailed(t, load)
	if body, _ := fetch(t.Context(), page); !strings.Contains(body, "Under new management") || !strings.Contains(body, "release 1.1") {
		t.Errorf("the page after the change:\n%s", body)
	}

	s.apply("--var", "release=1.1", "--replace", "deployment.store")
	sold(t, page, "lantern", 3)
	s.ok("destroy", "--auto-approve")
	node := ""
	for _, n := range s.lab.Nodes() {
		if sh(t, t.Context(), n, "find /var/lib/berth -name counters.log 2>/dev/null; true") != "" {
			node = n.Name
			sh(t, t.Context(), n, "rm -rf /var/lib/berth/volumes")
		}
	}
	if node == "" {
		t.Error("the store's data is gone after destroy: the example's volume is to be retained")
	}
}

// copyExample copies the configuration of an example into the story's directory.
func copyExample(t *testing.T, s *story, from string) {
	t.Helper()
	for _, name := range []string{"inventory.hcl", "image.hcl", "cluster.hcl", "main.hcl"} {
		if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(filepath.Join(from, "*.hcl"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no configuration in %s: %v", from, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		s.write(filepath.Base(f), string(b))
	}
}

func buy(t *testing.T, page, item string, times int) {
	t.Helper()
	for range times {
		resp, err := http.PostForm(page+"buy", url.Values{"item": {item}})
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("buy %s: %s", item, resp.Status)
		}
	}
}

func sold(t *testing.T, page, item string, want int) {
	t.Helper()
	body, err := fetch(t.Context(), page)
	if err != nil || !strings.Contains(body, fmt.Sprintf("<td>%s</td><td>sold %d</td>", item, want)) {
		t.Errorf("%s: want %d sold: %v\n%s", item, want, err, body)
	}
}

func serviceIP(t *testing.T, s *story, namespace, name string) string {
	t.Helper()
	for _, line := range strings.Split(s.ok("get", "services", "-n", namespace), "\n") {
		if f := strings.Fields(line); len(f) > 2 && f[0] == name {
			return f[2]
		}
	}
	t.Fatalf("no service %s", name)
	return ""
}
