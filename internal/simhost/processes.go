package simhost

import (
	"fmt"
	"slices"
	"sync"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// processes are those that containerd has started, by the cgroup of their sandbox. It has a lock of its own, because it is asked by readers of files.
type processes struct {
	mu   sync.Mutex
	last int
	byID map[string]process // by the identifier of a sandbox or container
}

type process struct {
	pid    int
	cgroup string
}

// firstPid is far from those of scripts.
const firstPid = 1 << 20

func (p *processes) begin(id, cgroup string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last++
	if p.byID == nil {
		p.byID = map[string]process{}
	}
	p.byID[id] = process{firstPid + p.last, cgroup}
}

func (p *processes) end(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.byID, id)
}

func (p *processes) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.byID)
}

// in is what cgroup.procs says.
func (p *processes) in(cgroup string) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	var pids []int
	for _, x := range p.byID {
		if x.cgroup == cgroup {
			pids = append(pids, x.pid)
		}
	}
	slices.Sort(pids)
	var b []byte
	for _, pid := range pids {
		b = fmt.Appendln(b, pid)
	}
	return b
}

func (p *processes) find(pid int) (id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, x := range p.byID {
		if x.pid == pid {
			return id
		}
	}
	return ""
}

// signal sends a signal to a process of a container or to the one that holds a sandbox. Only whether it ends them matters.
func (c *containerd) signal(pid int, sig string) bool {
	id := c.procs.find(pid)
	if id == "" || sig == "0" {
		return id != ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if x := c.containers[id]; x != nil && x.state == runtimev1.ContainerState_CONTAINER_RUNNING {
		c.exit(x, 137, "Error")
	}
	if b := c.boxes[id]; b != nil && b.ready { // its containers go on, and its address stays taken
		b.ready = false
		c.procs.end(id)
	}
	return true
}
