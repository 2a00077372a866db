package main

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/nodegoal"
	"berth.dev/berth/statefile"
)

// nodeGoals hand nodes that look after themselves their parts of the state.
type nodeGoals struct {
	version string // of the program

	mu    sync.Mutex
	of    *api.State
	parts map[string][]byte // of that state, by node
}

// part is the document for a node.
func (g *nodeGoals) part(s *api.State, fence uint64, node string) ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.of != s {
		g.of, g.parts = s, map[string][]byte{}
	}
	if data, ok := g.parts[node]; ok {
		return data, nil
	}
	data, err := statefile.Encode(s.PartOf(node), fence, g.version)
	if err == nil {
		g.parts[node] = data
	}
	return data, err
}

// hand tells a node that somebody is there, and brings its part if it wants it and has another.
func (g *nodeGoals) hand(ctx context.Context, h providers.Host, w *providers.Work, s *api.State) (bool, error) {
	wanted, sum, err := nodegoal.Look(ctx, h)
	if err != nil || !wanted {
		return false, err
	}
	data, err := g.part(s, w.Fence, w.Step.Node)
	if err != nil || nodegoal.Sum(data) == sum {
		return false, err
	}
	return true, nodegoal.Put(ctx, h, w, data)
}

// handTimeout bounds what an apply does about it at its end.
const handTimeout = 10 * time.Second

// handGoals brings all nodes that look after themselves what was just applied. One that is not reached gets it from the watchdog, or goes on as it
// is: until then it does nothing, because it has seen a newer run.
func (r *round) handGoals(ctx context.Context, f *statefile.File) {
	ctx, cancel := context.WithTimeout(ctx, handTimeout)
	defer cancel()
	g := &nodeGoals{version: r.g.proc.Version}
	s := f.State()
	var all errgroup.Group
	all.SetLimit(defaultParallelism)
	for _, n := range s.Nodes {
		if n.Node == nil {
			continue
		}
		all.Go(func() error {
			h, err := r.hosts().Host(ctx, n.Node)
			if err == nil {
				_, err = g.hand(ctx, h, &providers.Work{Step: &api.Step{Node: n.Name}, Lineage: s.Lineage, Cluster: s.Cluster, Fence: f.Fence()}, s)
			}
			if err != nil {
				r.log().Debug("a node did not get its part of the state", "node", n.Name, "error", err.Error())
			}
			return nil
		})
	}
	_ = all.Wait() // the functions return nil
}
