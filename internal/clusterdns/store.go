package clusterdns

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"berth.dev/berth/api"
)

// store keeps the records of all services, by name and by address. The cost of a change does not grow with what is there.
type store struct {
	mu         sync.RWMutex
	services   map[string]*service // by "namespace/name"
	namespaces map[string]int      // how many services each has
	reverse    map[netip.Addr][]pointer
	loaded     bool
}

// pointer is a name that an address has because of a service.
type pointer struct{ key, name string }

// service is one service as questions need it.
type service struct {
	namespace, name string
	cname           string       // of type ExternalName
	ips             []netip.Addr // cluster IPs; none for a headless one
	ports           []api.DNSPort
	endpoints       []endpoint
}

// endpoint is a pod behind a headless service.
type endpoint struct {
	host  string // its label below the service's name
	ip    netip.Addr
	ports map[string]int32
}

func newStore() *store {
	return &store{services: map[string]*service{}, namespaces: map[string]int{}, reverse: map[netip.Addr][]pointer{}}
}

// parse reads a record file.
func parse(text []byte) (*service, error) {
	var r api.DNSRecords
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, err
	}
	if r.Namespace == "" || r.Name == "" {
		return nil, fmt.Errorf("no namespace or no name")
	}
	s := &service{namespace: strings.ToLower(r.Namespace), name: strings.ToLower(r.Name), ports: r.Ports}
	if r.ExternalName != "" {
		s.cname = strings.ToLower(strings.TrimSuffix(r.ExternalName, ".")) + "."
	}
	for _, text := range r.ClusterIPs {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return nil, err
		}
		s.ips = append(s.ips, ip)
	}
	for _, e := range r.Endpoints {
		ip, err := netip.ParseAddr(e.IP)
		if err != nil {
			return nil, err
		}
		host := strings.ToLower(e.Hostname)
		if host == "" {
			host = dashed(ip)
		}
		s.endpoints = append(s.endpoints, endpoint{host, ip, e.Ports})
	}
	return s, nil
}

// dashed writes an address as one label: 10.244.1.5 → 10-244-1-5, fd00::1 → fd00--1.
func dashed(ip netip.Addr) string {
	return strings.NewReplacer(".", "-", ":", "-").Replace(ip.String())
}

// undashed reads what dashed writes. An IPv6 address may be written out in full.
func undashed(label string) (netip.Addr, bool) {
	if ip, err := netip.ParseAddr(strings.ReplaceAll(label, "-", ".")); err == nil {
		return ip, true
	}
	text := strings.ReplaceAll(label, "-", ":")
	// A label neither begins nor ends with a dash in most resolvers: ::1 may be written 0--1.
	ip, err := netip.ParseAddr(text)
	return ip, err == nil
}

func (s *service) key() string { return s.namespace + "/" + s.name }

// pointers are the names of addresses that follow from a service; "." stands for the service itself.
func (s *service) pointers(add func(ip netip.Addr, name string)) {
	for _, ip := range s.ips {
		add(ip, s.name+"."+s.namespace+".svc.")
	}
	for _, e := range s.endpoints {
		add(e.ip, e.host+"."+s.name+"."+s.namespace+".svc.")
	}
}

// put takes over a service's records in place of those before.
func (st *store) put(s *service) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.drop(s.key())
	st.services[s.key()] = s
	st.namespaces[s.namespace]++
	s.pointers(func(ip netip.Addr, name string) {
		st.reverse[ip] = append(st.reverse[ip], pointer{s.key(), name})
	})
}

// remove forgets a service.
func (st *store) remove(key string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.drop(key)
}

func (st *store) drop(key string) {
	old := st.services[key]
	if old == nil {
		return
	}
	delete(st.services, key)
	if st.namespaces[old.namespace]--; st.namespaces[old.namespace] == 0 {
		delete(st.namespaces, old.namespace)
	}
	old.pointers(func(ip netip.Addr, _ string) {
		left := slices.DeleteFunc(st.reverse[ip], func(p pointer) bool { return p.key == key })
		if len(left) == 0 {
			delete(st.reverse, ip)
			return
		}
		st.reverse[ip] = left
	})
}

// service returns a service by its name, or nil. What it points to does not change.
func (st *store) service(namespace, name string) *service {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return st.services[namespace+"/"+name]
}

func (st *store) hasNamespace(name string) bool {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return st.namespaces[name] > 0
}

// names are those of an address, below the cluster's domain, sorted.
func (st *store) names(ip netip.Addr) []string {
	st.mu.RLock()
	defer st.mu.RUnlock()
	var out []string
	for _, p := range st.reverse[ip] {
		out = append(out, p.name)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// ready reports whether the folder was read once.
func (st *store) ready() bool {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return st.loaded
}

func (st *store) setReady() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.loaded = true
}
