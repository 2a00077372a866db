package clusterdns

import (
	"context"
	"strings"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/upstream"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"berth.dev/berth/api"
)

// pluginName is the directive in the server's configuration.
const pluginName = "berth"

type portRecord = api.DNSPort

// handler is the plugin.
type handler struct {
	zone     *zone
	upstream *upstream.Upstream
	next     plugin.Handler
}

// Name returns the directive.
func (*handler) Name() string { return pluginName }

// Ready reports whether all records have been read.
func (h *handler) Ready() bool { return h.zone.store.ready() }

// ServeDNS answers what is ours, and asks the next plugin for the rest.
func (h *handler) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	state := request.Request{W: w, Req: r}
	a := answer{}
	if state.QClass() == dns.ClassINET {
		a = h.zone.find(question{name: strings.ToLower(state.Name()), asked: state.QName(), qtype: state.QType()})
	}
	if a.zone == "" {
		return plugin.NextOrFailure(h.Name(), h.next, ctx, w, r)
	}
	m := new(dns.Msg)
	m.SetReply(r)
	m.Authoritative, m.RecursionAvailable = true, true
	m.Answer, m.Extra = a.records, a.extra
	if a.follow != "" && (state.QType() == dns.TypeA || state.QType() == dns.TypeAAAA) {
		// A resolver of a libc wants the addresses in the same answer. That they cannot be had is not our answer's failure.
		if found, err := h.upstream.Lookup(ctx, state, a.follow, state.QType()); err == nil && found != nil {
			m.Answer = append(m.Answer, found.Answer...)
		}
	}
	if len(m.Answer) == 0 {
		m.Ns = []dns.RR{h.zone.soa(a.zone)}
		if !a.exists {
			m.Rcode = dns.RcodeNameError
		}
	}
	if err := w.WriteMsg(m); err != nil {
		return dns.RcodeServerFailure, err
	}
	return dns.RcodeSuccess, nil
}
