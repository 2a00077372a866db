package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

// Listed is one pod as a list of everything on its host shows it.
type Listed struct {
	Digest  string   // covers its sandboxes and containers, with their states
	IDs     []string // of these, sorted
	Lineage string   // the cluster that it belongs to
}

// ListAll looks at every pod on a host in one round trip, and at the host's boot id and clock. It costs next to nothing, and says of a pod no more than
// whether it is as it was.
func ListAll(ctx context.Context, h providers.Host) (bootID string, pods map[string]Listed, err error) {
	m, err := open(h)
	if err != nil {
		return "", nil, err
	}
	var boxes []*runtimev1.PodSandbox
	var list []*runtimev1.Container
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		resp, err := m.cri.Runtime.ListPodSandbox(gctx, &runtimev1.ListPodSandboxRequest{})
		boxes = resp.GetItems()
		return err
	})
	g.Go(func() (err error) { list, err = m.containers(gctx, nil); return err })
	g.Go(func() error {
		asked := time.Now()
		out, err := m.Run(gctx, providers.Command{Script: bootScript})
		if err != nil {
			return err
		}
		id, clock, _ := strings.Cut(string(out.Stdout), "\n")
		said, err := parseClock(clock)
		if err != nil {
			return fmt.Errorf("read the clock of %s: %w", h.Name(), err)
		}
		m.readClock(asked, time.Now(), said)
		bootID = strings.TrimSpace(id)
		return nil
	})
	if err := g.Wait(); err != nil {
		return "", nil, m.explain(ctx, fmt.Errorf("list pods of %s: %w", h.Name(), err))
	}
	parts := map[string]*partsOfPod{}
	lineages := map[string]string{}
	of := func(uid string) *partsOfPod {
		if parts[uid] == nil {
			parts[uid] = &partsOfPod{}
		}
		return parts[uid]
	}
	for _, s := range boxes {
		if lineage, ours := s.GetLabels()[api.LabelLineage]; ours {
			lineages[s.GetMetadata().GetUid()] = lineage
			of(s.GetMetadata().GetUid()).sandbox(s)
		}
	}
	for _, c := range list {
		if uid := c.GetLabels()[api.LabelPodUID]; lineages[uid] != "" {
			of(uid).container(c)
		}
	}
	pods = make(map[string]Listed, len(parts))
	for uid, p := range parts {
		digest, ids := p.sum()
		pods[uid] = Listed{Digest: digest, IDs: ids, Lineage: lineages[uid]}
	}
	return bootID, pods, nil
}

const bootScript = `read -r id </proc/sys/kernel/random/boot_id && echo "$id"
` + clockScript

// partsOfPod are the sandboxes and containers of one pod, as lists show them.
type partsOfPod struct{ states, ids []string }

func (p *partsOfPod) sandbox(s *runtimev1.PodSandbox) {
	p.ids = append(p.ids, s.GetId())
	p.states = append(p.states, s.GetId()+"="+s.GetState().String())
}

func (p *partsOfPod) container(c *runtimev1.Container) {
	p.ids = append(p.ids, c.GetId())
	p.states = append(p.states, c.GetId()+"="+c.GetState().String())
}

// sum is the digest and the ids.
func (p *partsOfPod) sum() (string, []string) {
	slices.Sort(p.states)
	slices.Sort(p.ids)
	sum := sha256.Sum256([]byte(strings.Join(p.states, "\n")))
	return hex.EncodeToString(sum[:8]), p.ids
}
