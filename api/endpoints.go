package api

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
)

// EndpointVersion is who is behind a service at one point of a plan, told by what is different from the version before: a plan that
// replaces thousands of pods one by one would hold thousands of lists of thousands otherwise.
type EndpointVersion struct {
	Service Address        `json:"service"`
	Version int            `json:"version"` // 1, 2, … for each service; before the first there is nobody
	Put     []EndpointLink `json:"put,omitempty"`
	Drop    []EndpointLink `json:"drop,omitempty"` // just as they were put
}

// Equal reports whether two links are the same in every field.
func (l EndpointLink) Equal(m EndpointLink) bool {
	return l.Pod == m.Pod && l.Node == m.Node && l.IP == m.IP && l.SecondIP == m.SecondIP && l.Terminating == m.Terminating && l.Hostname == m.Hostname && maps.Equal(l.Ports, m.Ports)
}

// Compare orders links by pod, node and written address.
func (l EndpointLink) Compare(m EndpointLink) int {
	return cmp.Or(l.Pod.Compare(m.Pod), strings.Compare(l.Node, m.Node), strings.Compare(l.IP, m.IP))
}

// Endpoints finds who is behind services at the steps of a plan. It is for a plan whose steps are asked for more or less in their
// order; any other order works, too, and costs more. It may be used by several goroutines.
type Endpoints struct {
	mu       sync.Mutex
	versions map[Address][]EndpointVersion
	at       map[Address]*endpointsAt
}

// endpointsAt is one service's list at one version.
type endpointsAt struct {
	version int
	list    []EndpointLink
}

// NewEndpoints reads the versions of a plan.
func NewEndpoints(p *Plan) *Endpoints {
	e := &Endpoints{versions: map[Address][]EndpointVersion{}, at: map[Address]*endpointsAt{}}
	for _, v := range p.Endpoints {
		e.versions[v.Service] = append(e.versions[v.Service], v)
	}
	return e
}

// Of returns who is behind a step's service, sorted; false when the plan does not have the version that the step names.
func (e *Endpoints) Of(s *Step) ([]EndpointLink, bool) {
	if s.Service == nil {
		return nil, true
	}
	return e.find(s.Address, s.Service.Version, s.Service.Endpoints)
}

// OfEntry returns who is behind a service of which a step tells DNS, sorted; false when the plan does not have the version that the entry names.
func (e *Endpoints) OfEntry(s *Step, entry *DNSEntry) ([]EndpointLink, bool) {
	return e.find(s.Address, entry.Version, entry.Endpoints)
}

// find returns a service's list at a version; without one it is the one written.
func (e *Endpoints) find(service Address, version int, written []EndpointLink) ([]EndpointLink, bool) {
	if version == 0 {
		return written, true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	versions := e.versions[service]
	if version < 1 || version > len(versions) {
		return nil, false
	}
	at := e.at[service]
	if at == nil {
		at = &endpointsAt{}
		e.at[service] = at
	}
	for at.version < version {
		v := &versions[at.version]
		at.change(v.Drop, v.Put)
		at.version++
	}
	for at.version > version {
		at.version--
		v := &versions[at.version]
		at.change(v.Put, v.Drop)
	}
	return slices.Clone(at.list), true
}

// change takes links out and puts others in.
func (a *endpointsAt) change(out, in []EndpointLink) {
	for _, l := range out {
		i, _ := slices.BinarySearchFunc(a.list, l, EndpointLink.Compare)
		for ; i < len(a.list) && a.list[i].Compare(l) == 0; i++ {
			if a.list[i].Equal(l) {
				a.list = slices.Delete(a.list, i, i+1)
				break
			}
		}
	}
	if len(a.list) == 0 { // the first version may be thousands
		a.list = slices.Clone(in)
		return
	}
	for _, l := range in {
		i, found := slices.BinarySearchFunc(a.list, l, EndpointLink.Compare)
		for ; found && i < len(a.list) && a.list[i].Compare(l) == 0; i++ {
		}
		a.list = slices.Insert(a.list, i, l)
	}
}
