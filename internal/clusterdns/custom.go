package clusterdns

import (
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

// custom are the records that a configuration gives beside those of services, by name.
type custom map[string][]dns.RR

// parseCustom reads a zone file.
func parseCustom(text, file string) (custom, error) {
	c := custom{}
	p := dns.NewZoneParser(strings.NewReader(text), ".", file)
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		name := strings.ToLower(rr.Header().Name)
		c[name] = append(c[name], rr)
	}
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("custom records: %w", err)
	}
	return c, nil
}

// find answers for names that have records here; the others of their domain are looked for elsewhere.
func (c custom) find(q question) (answer, bool) {
	list, ok := c[q.name]
	if !ok {
		return answer{}, false
	}
	a := answer{zone: q.name, exists: true}
	for _, rr := range list {
		cname, other := rr.(*dns.CNAME)
		if rr.Header().Rrtype != q.qtype && !other {
			continue
		}
		rr = dns.Copy(rr)
		rr.Header().Name = q.asked
		a.records = append(a.records, rr)
		if other && q.qtype != dns.TypeCNAME {
			a.follow = cname.Target
		}
	}
	return a, true
}
