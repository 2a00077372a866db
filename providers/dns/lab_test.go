package dns_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/api"
	"berth.dev/berth/internal/lab"
	"berth.dev/berth/internal/lab/labtest"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/dns"
	"berth.dev/berth/providers/internal/hosttest"
	"berth.dev/berth/providers/internal/mark"
)

func TestMain(m *testing.M) { labtest.Main(m, lab.Config{Nodes: 1}) }

const lineage = "3f1c1b9e-0000-4000-8000-000000000003"

func host(t *testing.T) *hosttest.Host {
	t.Helper()
	l := labtest.Shared(t)
	h := hosttest.New("n1", func() (int, error) {
		status, err := l.Status(context.WithoutCancel(t.Context()))
		if err != nil || !status[0].Running {
			return 0, errors.Join(err, errors.New("powered off"))
		}
		return status[0].Pid, nil
	})
	h.Sh(t, `mkdir -p /var/lib/berth/network; printf '%s\n' "$1" >`+api.MarkFile, fmt.Sprintf(`{"lineage":%q,"cluster":"test","node":"n1","fence":3}`, lineage))
	t.Cleanup(func() { h.Sh(t, "rm -rf /var/lib/berth/*") })
	return h
}

func work(w *api.DNSWork, ips ...string) *providers.Work {
	out := &providers.Work{Step: &api.Step{Op: api.OpDNSSet, Node: "n1", DNS: w}, Lineage: lineage, Cluster: api.Cluster{Name: "test"}, Fence: 4}
	for _, ip := range ips {
		out.Endpoints = append(out.Endpoints, providers.Endpoint{IP: ip})
	}
	return out
}

func entry(namespace, name string, records api.DNSRecords, hostnames ...string) api.DNSEntry {
	records.Namespace, records.Name = namespace, name
	e := api.DNSEntry{Records: records}
	for _, h := range hostnames {
		e.Endpoints = append(e.Endpoints, api.EndpointLink{Ports: map[string]int32{"http": 80}, Hostname: h})
	}
	return e
}

func observe(t *testing.T, h *hosttest.Host) map[string]string {
	t.Helper()
	obs := &api.NodeObservation{}
	if err := dns.New().Observe(t.Context(), h, obs); err != nil {
		t.Fatal(err)
	}
	return obs.DNS
}

// Records are on the host as the planner's hash says, each in its own file; those that are not named stay.
func TestSet(t *testing.T) {
	h := host(t)
	if got := observe(t, h); len(got) > 0 {
		t.Errorf("a fresh host has records: %v", got)
	}
	web := entry("shop", "web", api.DNSRecords{ClusterIPs: []string{"10.96.1.2"}})
	db := entry("shop", "db", api.DNSRecords{}, "db-0", "db-1")
	ext := entry("default", "ext", api.DNSRecords{ExternalName: "a.example"})
	p := dns.New()
	for _, step := range []*providers.Work{
		work(&api.DNSWork{Put: []api.DNSEntry{ext, db, web}}, "10.244.0.9", "10.244.0.8"),
		work(&api.DNSWork{Put: []api.DNSEntry{db}}, "10.244.0.9", "10.244.0.7"),
		work(&api.DNSWork{Put: []api.DNSEntry{db}}, "10.244.0.9", "10.244.0.7"), // again
	} {
		if _, err := p.Apply(t.Context(), h, step); err != nil {
			t.Fatal(err)
		}
	}
	records := db.Resolve([]string{"10.244.0.9", "10.244.0.7"})
	want := map[string]string{"shop/web": web.Records.Hash(), "default/ext": ext.Records.Hash(), "shop/db": records.Hash()}
	if d := cmp.Diff(want, observe(t, h)); d != "" {
		t.Errorf("records (-want +got):\n%s", d)
	}
	if got, want := h.Sh(t, "cat /var/lib/berth/dns/records/shop_db.json"),
		`{"namespace":"shop","name":"db","endpoints":[{"ip":"10.244.0.7","hostname":"db-1","ports":{"http":80}},{"ip":"10.244.0.9","hostname":"db-0","ports":{"http":80}}]}`; got != want {
		t.Errorf("the file holds\n%s\nwant\n%s", got, want)
	}
	if got := h.Sh(t, "cd /var/lib/berth/dns && find . | sort | tr '\\n' ' '; stat -c %a records/shop_db.json"); got != ". ./records ./records/default_ext.json ./records/shop_db.json ./records/shop_web.json 644\n" {
		t.Errorf("on the host lie %s", got)
	}
	h.Sh(t, "echo >>/var/lib/berth/dns/records/shop_web.json")
	if observe(t, h)["shop/web"] == web.Records.Hash() {
		t.Error("a file that somebody has changed looks as it was written")
	}
	for range 2 { // what is gone is no error
		if _, err := p.Apply(t.Context(), h, work(&api.DNSWork{Put: []api.DNSEntry{web}, Drop: []string{"default/ext", "shop/db"}})); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(map[string]string{"shop/web": web.Records.Hash()}, observe(t, h)); d != "" {
		t.Errorf("after two were dropped (-want +got):\n%s", d)
	}
}

// A process that has lost its lock, and another cluster, change nothing.
func TestFenced(t *testing.T) {
	h := host(t)
	late, foreign := work(&api.DNSWork{Put: []api.DNSEntry{entry("a", "b", api.DNSRecords{})}}), work(&api.DNSWork{})
	late.Fence, foreign.Lineage = 2, "another"
	if _, err := dns.New().Apply(t.Context(), h, late); !errors.Is(err, providers.ErrFenced) {
		t.Errorf("with an old fencing number: %v", err)
	}
	var refused *api.DiagnosticsError
	if _, err := dns.New().Apply(t.Context(), h, foreign); !errors.As(err, &refused) || !strings.Contains(err.Error(), lineage) {
		t.Errorf("of another cluster: %v", err)
	}
	if got := observe(t, h); len(got) > 0 {
		t.Errorf("records were written all the same: %v", got)
	}
	text := h.Sh(t, "cat "+api.MarkFile)
	if m, err := mark.Parse([]byte(text)); err != nil || m.Fence != 3 {
		t.Errorf("the mark is %q, %v", text, err)
	}
}
