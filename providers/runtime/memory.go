package runtime

import (
	"context"
	"sync"
	"time"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers/runtime/life"
)

// podMemory is what is remembered of one pod while its host's connection lasts: how its hooks and probes went, and what CRI has said that
// does not change. A process that has forgotten it runs probes from their beginning.
type podMemory struct {
	mu     sync.Mutex
	notes  map[string]*life.Notes                // by container ID
	said   map[string]*runtimev1.ContainerStatus // by container ID
	ips    map[string][]string                   // by sandbox ID
	before map[string]life.Container             // newest attempts in sandboxes that were removed, by name
	ended  map[string][]string                   // IDs of attempts that ended while we looked, by name
	killed map[string]string                     // by which probe or hook, by container ID
	told   map[string]bool                       // that it is being stopped, by container ID
	latest time.Time                             // when we started a container last, by our clock
}

func (m *memory) podMemory(uid string) *podMemory {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pods == nil {
		m.pods = map[string]*podMemory{}
	}
	if m.pods[uid] == nil {
		m.pods[uid] = &podMemory{
			notes: map[string]*life.Notes{}, said: map[string]*runtimev1.ContainerStatus{}, ips: map[string][]string{},
			before: map[string]life.Container{}, ended: map[string][]string{}, killed: map[string]string{}, told: map[string]bool{},
		}
	}
	return m.pods[uid]
}

func (m *memory) forgetPod(uid string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.pods, uid)
}

// now is the time by the host's clock, as it was read last.
func (m *memory) now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.clock.now()
}

// readClock takes in what the host's clock said at some moment between two of ours.
func (m *memory) readClock(asked, answered, clock time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clock.read(asked, answered, clock)
}

func (p *podMemory) note(id string) (life.Notes, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.notes[id]
	if n == nil {
		return life.Notes{}, false
	}
	return *n, true
}

func (p *podMemory) change(id string, how func(*life.Notes)) life.Notes {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.notes[id] == nil {
		p.notes[id] = &life.Notes{}
	}
	if how != nil {
		how(p.notes[id])
	}
	return *p.notes[id]
}

// addresses are those of a sandbox, which do not change: one of each family of the cluster.
func (p *podMemory) addresses(ctx context.Context, m *machine, id string, c *api.Cluster) (first, second string, err error) {
	p.mu.Lock()
	ips := p.ips[id]
	p.mu.Unlock()
	if len(ips) == 0 {
		st, err := p.sandbox(ctx, m, id)
		if err != nil {
			return "", "", err
		}
		ips = networkIPs(st.GetNetwork())
	}
	first, second = c.PrimaryFirst(ips...)
	return first, second, nil
}

// sandbox asks for the status of a sandbox and keeps its addresses.
func (p *podMemory) sandbox(ctx context.Context, m *machine, id string) (*runtimev1.PodSandboxStatus, error) {
	st, err := m.sandboxStatus(ctx, id)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ips[id] = networkIPs(st.GetNetwork())
	return st, nil
}

// status is what CRI says of an attempt, asked again only when its state has changed; nil when it is gone.
func (p *podMemory) status(ctx context.Context, m *machine, c *runtimev1.Container) (*runtimev1.ContainerStatus, error) {
	p.mu.Lock()
	st := p.said[c.GetId()]
	p.mu.Unlock()
	if st != nil && st.GetState() == c.GetState() {
		return st, nil
	}
	return p.ask(ctx, m, c.GetId())
}

// ask asks for the status of an attempt and keeps it; nil when it is gone.
func (p *podMemory) ask(ctx context.Context, m *machine, id string) (*runtimev1.ContainerStatus, error) {
	st, err := m.statusIfThere(ctx, id)
	if st == nil || err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said[id] = st
	return st, nil
}

// crash counts an attempt that has ended.
func (p *podMemory) crash(o *api.ObservedContainer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ids := p.ended[o.Name]
	if len(ids) == 0 || ids[len(ids)-1] != o.ID {
		p.ended[o.Name] = append(ids, o.ID)
	}
}

func (p *podMemory) crashes(name string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.ended[name])
}

// condemn remembers which probe or hook had a container killed.
func (p *podMemory) condemn(id, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killed[id] = why
}

// tellOnce reports whether nobody was told yet that a container is being stopped.
func (p *podMemory) tellOnce(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	told := p.told[id]
	p.told[id] = true
	return !told
}

// begun remembers that a container has just been started.
func (p *podMemory) begun() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.latest = time.Now()
}

// age is how long ago a container was started here; long ago when none was.
func (p *podMemory) age() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Since(p.latest)
}

func (p *podMemory) whyKilled(id string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.killed[id]
}

// remember keeps what must outlive a sandbox that is removed: how often containers were started and how they ended.
func (p *podMemory) remember(c life.Container) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.Earlier, c.Notes = true, life.Notes{}
	if c.State == api.ContainerRunning || c.State == api.ContainerUnknown {
		c.State = api.ContainerUnknown // it goes with its sandbox
	}
	p.before[c.Name] = c
}
