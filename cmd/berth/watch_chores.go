package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/image"
	"berth.dev/berth/providers/runtime"
	"berth.dev/berth/watchdog"
)

// watchChores do the housekeeping of nodes, through the providers that brought there what goes.
type watchChores struct {
	sight  *watchSight
	goal   *watchGoal
	leader *watchLeader
	events *watchEvents
	log    *slog.Logger
	now    func() time.Time
	images image.Collector
	goals  *nodeGoals // nil on a node by itself
}

// chore is one of them: what it says when it did something, and when it could not (the kubelet's reasons, where it has one).
type chore struct {
	do             func(w *watchChores, ctx context.Context, h providers.Host, work *providers.Work) (string, error)
	reason, failed string
}

var choreTable = map[watchdog.Chore]chore{
	watchdog.ChoreGoal:       {(*watchChores).hand, "GoalHandedOver", "GoalNotHandedOver"},
	watchdog.ChoreLogs:       {(*watchChores).rotate, "LogsRotated", "LogRotationFailed"},
	watchdog.ChoreContainers: {(*watchChores).tidy, "LeftoversRemoved", "ContainerGCFailed"},
	watchdog.ChoreImages:     {(*watchChores).collect, "ImagesRemoved", "ImageGCFailed"},
}

// Keep does chores on a node.
func (w *watchChores) Keep(ctx context.Context, node string, chores []watchdog.Chore, term uint64) error {
	h, err := w.sight.host(ctx, node)
	if err != nil {
		return err
	}
	if err := w.leader.held(ctx); err != nil {
		return err
	}
	var errs []error
	for _, what := range chores {
		c := choreTable[what]
		work := w.goal.work(node)
		work.Term = term
		said, err := c.do(w, ctx, h, &work)
		if said != "" {
			w.tell(node, "Normal", c.reason, said)
		}
		switch {
		case err == nil:
		case ctx.Err() != nil || errors.Is(err, providers.ErrUnreachable) || errors.Is(err, providers.ErrFenced):
			return w.leader.heed(err) // the node, or the term, is over: that is told elsewhere
		default:
			w.tell(node, "Warning", c.failed, err.Error())
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (w *watchChores) tell(node, kind, reason, message string) {
	w.events.add(api.ObjectEvent{Object: api.NodeEventObject(node), Node: node, Type: kind, Reason: reason, Message: message, Source: "watchdog"})
}

// hand tells a node that looks after itself that somebody is there, and brings it what it needs for when nobody is.
func (w *watchChores) hand(ctx context.Context, h providers.Host, work *providers.Work) (string, error) {
	if w.goals == nil {
		return "", nil
	}
	now, state := w.goal.both(work.Step.Node) // of one moment: a part that is newer than its fence would not be let in later
	now.Term = work.Term
	brought, err := w.goals.hand(ctx, h, &now, state)
	if brought && err == nil {
		w.log.Debug("a node has its part of the state", "node", h.Name())
	}
	return "", err
}

func (w *watchChores) rotate(ctx context.Context, h providers.Host, work *providers.Work) (string, error) {
	rules := work.Cluster.HousekeepingOrDefault()
	done, err := runtime.RotateLogs(ctx, h, work, runtime.Rotation{MaxBytes: rules.ContainerLogMaxSize, MaxFiles: rules.ContainerLogMaxFiles}, w.now())
	if len(done) == 0 {
		return "", err
	}
	w.log.Debug("logs rotated", "node", h.Name(), "files", done)
	return fmt.Sprintf("Rotated %s larger than %s", several(len(done), "log"), bytesText(rules.ContainerLogMaxSize)), err
}

func (w *watchChores) tidy(ctx context.Context, h providers.Host, work *providers.Work) (string, error) {
	done, err := runtime.Tidy(ctx, h, work)
	if done.IsZero() {
		return "", err
	}
	w.log.Debug("leftovers removed", "node", h.Name(), "containers", done.Containers, "logs", done.Logs, "addresses", done.Leases, "files", done.Scratch)
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{len(done.Containers), "dead container"}, {len(done.Logs), "old log"}, {len(done.Leases), "address of nobody"}, {len(done.Scratch), "file of a stopped script"}} {
		if p.n > 0 {
			parts = append(parts, several(p.n, p.what))
		}
	}
	return "Removed " + strings.Join(parts, ", "), err
}

// collect leaves everything as it is while a run is in progress: what that brings to nodes is used only a moment later.
func (w *watchChores) collect(ctx context.Context, h providers.Host, work *providers.Work) (string, error) {
	needs, inFlight := w.goal.imagesOf(h.Name())
	if s := w.goal.known(); s != nil {
		var nodes []string
		for i := range s.Nodes {
			nodes = append(nodes, s.Nodes[i].Name)
		}
		w.images.Forget(nodes)
	}
	rules := work.Cluster.HousekeepingOrDefault()
	if inFlight {
		rules.ImageGCHighThresholdPercent, rules.ImageMaximumGCAge = 100, 0
	}
	done, err := w.images.Collect(ctx, h, work, rules, needs, w.now())
	if done.Short > 0 && rules.ImageGCHighThresholdPercent < 100 {
		w.tell(h.Name(), "Warning", "FreeDiskSpaceFailed", fmt.Sprintf("The file system of images is %d %% full, beyond %d %%, and no image may go that would free the %s to be at %d %%: "+
			"what else lies there has to go, or more room has to come", done.Percent, rules.ImageGCHighThresholdPercent, bytesText(done.Short), rules.ImageGCLowThresholdPercent))
	}
	if len(done.Images) == 0 {
		return "", err
	}
	return fmt.Sprintf("Removed %s that nothing used (%s), with the file system of images %d %% full: %s",
		several(len(done.Images), "image"), bytesText(done.Bytes), done.Percent, strings.Join(done.Images, ", ")), err
}

func several(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if of, rest, ok := strings.Cut(what, " of "); ok {
		plural := of + "s"
		if of == "address" {
			plural = "addresses"
		}
		return fmt.Sprintf("%d %s of %s", n, plural, rest)
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// bytesText is a size as Kubernetes writes it.
func bytesText(n int64) string {
	for _, unit := range []int64{1 << 30, 1 << 20, 1 << 10} {
		if n >= 10*unit {
			n -= n % unit // whole ones are near enough
			break
		}
	}
	return resource.NewQuantity(n, resource.BinarySI).String()
}

// imagesOf are the images that the pods of a node are made of, and those of image blocks that any workload names, as one without pods or a cronjob between
// its runs: nobody here can bring them again. And whether a run is in progress or has not been taken over.
func (w *watchGoal) imagesOf(node string) (refs []string, inFlight bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.state.Pods {
		p := &w.state.Pods[i]
		if p.Node != node || p.Spec == nil {
			continue
		}
		for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
			refs = append(refs, c.Image)
		}
	}
	refs = append(refs, builtRefs(w.state)...)
	slices.Sort(refs)
	return slices.Compact(refs), w.inFlight
}

// builtRefs are the images of image blocks that workloads name.
func builtRefs(s *api.State) []string {
	built := map[string]bool{}
	for _, o := range s.Objects {
		if i, ok := o.Value.(*api.Image); ok {
			built[i.Ref] = true
		}
	}
	var out []string
	for _, o := range s.Objects {
		spec := api.PodSpecOf(o.Value)
		if spec == nil {
			continue
		}
		for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
			if built[c.Image] {
				out = append(out, c.Image)
			}
		}
	}
	return out
}

// rulesText differs when other rules count for housekeeping.
func rulesText(c api.Cluster) string {
	b, err := json.Marshal(c.HousekeepingOrDefault())
	if err != nil {
		panic("housekeeping is not JSON: " + err.Error()) // numbers: cannot happen
	}
	return string(b)
}
