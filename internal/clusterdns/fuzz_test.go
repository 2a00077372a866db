package clusterdns

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// FuzzFind asks for whatever can be asked: every answer is of the name that was asked for, and can be sent.
func FuzzFind(f *testing.F) {
	st := newStore()
	for _, r := range services() {
		s, err := parse(r.Text())
		if err != nil {
			f.Fatal(err)
		}
		st.put(s)
	}
	c, err := parseCustom(customZone, "zone")
	if err != nil {
		f.Fatal(err)
	}
	z := &zone{store: st, custom: c, domain: "cluster.local.", ranges: ranges}
	for _, name := range []string{"web.dev.svc.cluster.local.", "_pg._tcp.db.dev.svc.cluster.local.", "1-2-3-4.x.pod.cluster.local.", "2.1.96.10.in-addr.arpa.", "alias.corp.example.", ".", "..", "_.._.svc.cluster.local."} {
		f.Add(name, uint16(dns.TypeSRV))
		f.Add(name, uint16(dns.TypeA))
	}
	f.Fuzz(func(t *testing.T, name string, qtype uint16) {
		if _, ok := dns.IsDomainName(name); !ok || !dns.IsFqdn(name) {
			return
		}
		a := z.find(question{name: strings.ToLower(name), asked: name, qtype: qtype})
		for _, rr := range a.records {
			if !strings.EqualFold(rr.Header().Name, name) {
				t.Errorf("asked for %q, answered %s", name, rr)
			}
		}
		if len(a.records) > 0 && (!a.exists || a.zone == "") {
			t.Errorf("records of %q, which is said not to be", name)
		}
		m := new(dns.Msg)
		m.SetQuestion(name, qtype)
		if _, err := m.Pack(); err != nil {
			return
		}
		m.Answer, m.Extra = a.records, a.extra
		if _, err := m.Pack(); err != nil {
			t.Errorf("the answer to %q cannot be sent: %v", name, err)
		}
	})
}

// FuzzParse reads what may lie in a record file.
func FuzzParse(f *testing.F) {
	for _, r := range services() {
		f.Add(r.Text())
	}
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parse(text)
		if err != nil {
			return
		}
		st := newStore()
		st.put(s)
		st.put(s)
		st.remove(s.key())
		if len(st.services)+len(st.reverse)+len(st.namespaces) != 0 {
			t.Errorf("something of %q is left", text)
		}
	})
}
