package clusterdns

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Options is what a server is told when it starts.
type Options struct {
	Domain   string         // of the cluster: "cluster.local"
	Records  string         // the folder of record files
	Services []string       // the folders of services' rules, one of each family, whose health check ports are answered
	Zone     string         // a file of custom records in zone file syntax; "" for none
	Address  string         // at which pods ask: what the name server of the domain is said to have
	Ranges   []netip.Prefix // of pods and services: questions for names of their addresses go nowhere else
	Upstream []string       // servers for all other names, "ADDRESS" or "ADDRESS:PORT"; none for those in Resolv
	Stubs    []Stub
	Resolv   string // /etc/resolv.conf
	Port     int    // to answer at; 53
	Health   string // ":8080"; "" for none
	Ready    string // ":8181"
	Metrics  string // ":9153"
}

// Stub is a domain that other servers know.
type Stub struct {
	Domain  string
	Servers []string
}

// ParseStub reads "corp.example=10.1.0.53,10.1.0.54:5353".
func ParseStub(text string) (Stub, error) {
	domain, list, ok := strings.Cut(text, "=")
	s := Stub{domain, strings.Split(list, ",")}
	if !ok || domain == "" {
		return s, fmt.Errorf("stub domain %q: write DOMAIN=SERVER[,SERVER...]", text)
	}
	for _, server := range s.Servers {
		if err := CheckServer(server); err != nil {
			return s, fmt.Errorf("stub domain %q: %w", domain, err)
		}
	}
	return s, nil
}

// CheckServer accepts an IP address with or without a port.
func CheckServer(s string) error {
	if _, err := netip.ParseAddr(s); err == nil {
		return nil
	}
	if p, err := netip.ParseAddrPort(s); err == nil && p.Port() != 0 {
		return nil
	}
	return fmt.Errorf("%q is not the address of a server such as 10.0.0.53 or 10.0.0.53:5353", s)
}

// corefile is the server's configuration. The order of a question's way is that of directives, in serve.go: names of the cluster are answered
// before the cache, so that a change is never hidden by it.
func (o *Options) corefile(upstream []string) string {
	var b strings.Builder
	for _, s := range o.Stubs {
		fmt.Fprintf(&b, "%s:%d {\n\terrors\n\tprometheus %s\n\tcache 30\n\tforward . %s\n}\n", s.Domain, o.Port, o.Metrics, strings.Join(s.Servers, " "))
	}
	fmt.Fprintf(&b, ".:%d {\n\terrors\n", o.Port)
	if o.Health != "" {
		fmt.Fprintf(&b, "\thealth %s\n", o.Health)
	}
	fmt.Fprintf(&b, "\tready %s\n\tprometheus %s\n\tloadbalance\n\t%s\n\tcache 30\n", o.Ready, o.Metrics, pluginName)
	if len(upstream) > 0 {
		fmt.Fprintf(&b, "\tloop\n\tforward . %s {\n\t\tmax_concurrent 1000\n\t}\n", strings.Join(upstream, " "))
	}
	b.WriteString("}\n")
	return b.String()
}

// upstream are the servers for all names that are not ours: those given, else the node's, without loopback addresses: in a pod these are
// the pod itself, and the question would come back for ever.
func (o *Options) upstream(resolv string) []string {
	if len(o.Upstream) > 0 {
		return o.Upstream
	}
	var out []string
	for line := range strings.Lines(resolv) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		host, _, _ := strings.Cut(f[1], "%")
		if ip, err := netip.ParseAddr(host); err == nil && !ip.IsLoopback() {
			out = append(out, net.JoinHostPort(f[1], "53"))
		}
	}
	return out
}
