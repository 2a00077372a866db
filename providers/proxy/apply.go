package proxy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/mark"
)

// Provider carries out service.set and service.remove.
type Provider struct{}

var _ providers.Provider = (*Provider)(nil)

// New returns the provider.
func New() *Provider { return &Provider{} }

// Name is "proxy".
func (*Provider) Name() string { return "proxy" }

// Ops are those on services.
func (*Provider) Ops() []api.Op { return []api.Op{api.OpServiceSet, api.OpServiceRemove} }

// Apply brings a service's rules into force or takes them away.
func (p *Provider) Apply(ctx context.Context, h providers.Host, w *providers.Work) (providers.Result, error) {
	if w.Step.Service == nil || w.Step.Service.Service == nil {
		return providers.Result{}, fmt.Errorf("step %s carries no service", w.Step.Op)
	}
	svc := w.Step.Service.Service
	name := svc.Namespace + "/" + svc.Name
	texts := map[corev1.IPFamily]string{}
	for _, f := range w.Cluster.Families() {
		switch w.Step.Op {
		case api.OpServiceSet:
			rules, err := Render(w.Step.Service, w.Endpoints, on(w, f))
			if err != nil {
				return providers.Result{}, err
			}
			if w.Step.Service.Repair {
				rules.Note(noteRepair)
			}
			texts[f] = rules.Text()
		case api.OpServiceRemove:
			texts[f] = none(name).Text()
		default:
			return providers.Result{}, fmt.Errorf("provider proxy does not carry out %s", w.Step.Op)
		}
	}
	if err := p.put(ctx, h, w, texts); err != nil {
		return providers.Result{}, fmt.Errorf("%s of %s on %s: %w", verb(w.Step.Op), name, h.Name(), err)
	}
	return providers.Result{}, nil
}

// on is the step's node with what it has of a family.
func on(w *providers.Work, f corev1.IPFamily) On {
	return On{w.Step.Node, api.OfFamily(f, w.NodeIP, w.SecondNodeIP), api.OfFamily(f, w.Cluster.PodCIDRs()...), f}
}

func verb(op api.Op) string {
	if op == api.OpServiceRemove {
		return "remove rules"
	}
	return "set rules"
}

// put has the rules brought into force, together with those of other steps that wait for the same host.
func (p *Provider) put(ctx context.Context, h providers.Host, w *providers.Work, texts map[corev1.IPFamily]string) error {
	args, err := mark.Args(w)
	if err != nil {
		return err
	}
	res, err := h.Resource("proxy.queue", func() (any, error) { return &queue{}, nil })
	if err != nil {
		return err
	}
	svc := w.Step.Service.Service
	r := &request{args: args, share: shareOf(svc.Namespace + "/" + svc.Name), texts: texts, remove: w.Step.Op == api.OpServiceRemove, repair: w.Step.Service.Repair}
	out, err := res.(*queue).do(ctx, h, r)
	if err == nil && w.Report != nil && bytes.Contains(out.Stdout, []byte("no conntrack")) {
		w.Report("conntrack is not installed: UDP clients may go on talking to pods that are gone; run berth node prepare")
	}
	return err
}

// Statuses with which putScript ends; none is one of mark.Check.
const (
	statusNoNetwork = 79 // the static chains are missing
	statusAgain     = 80 // the files are not to be relied on
)

// shareOf is the share of a service's rules among the files on a host: two hexadecimal digits.
func shareOf(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:1])
}

// run brings the texts into force, by one script where the files on the host tell what is in force.
func run(ctx context.Context, h providers.Host, batch ...*request) (providers.Output, error) {
	repair := slices.ContainsFunc(batch, func(r *request) bool { return r.repair })
	out, err := runOnce(ctx, h, repair, batch...)
	if exit, ok := errors.AsType[*providers.ExitError](err); ok && exit.Status == statusAgain {
		out, err = runOnce(ctx, h, true, batch...)
	}
	if exit, ok := errors.AsType[*providers.ExitError](err); ok && exit.Status == statusNoNetwork {
		return out, &api.DiagnosticsError{Diagnostics: api.Diagnostics{{
			Severity: api.SeverityError, Summary: "Pod network is not set up", Node: h.Name(),
			Detail: "The host lacks the chains that services hang from: they were removed since the plan was made. Plan again.",
		}}}
	}
	return out, mark.Err(h, err)
}

func runOnce(ctx context.Context, h providers.Host, repair bool, batch ...*request) (providers.Output, error) {
	var text bytes.Buffer
	families := []string{}
	for _, f := range []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol} {
		begun := false
		for _, r := range batch {
			if r.texts[f] == "" {
				continue
			}
			if !begun && len(families) > 0 {
				text.WriteString(nextFamily + "\n")
			}
			if !begun {
				families = append(families, map[corev1.IPFamily]string{corev1.IPv4Protocol: "4", corev1.IPv6Protocol: "6"}[f])
			}
			if begun {
				text.WriteString(textEnd)
			}
			begun = true
			text.WriteString(r.share + "\n")
			text.WriteString(r.texts[f])
		}
	}
	again := "0"
	if repair {
		again = "1"
	}
	script, op := putScript, "set"
	if batch[0].remove {
		script, op = "berth_mark_absent=done\n"+putScript, "remove" // rules that went with the whole node
	}
	args := slices.Concat(batch[0].args, []string{op, strconv.Itoa(len(batch)), again, strings.Join(families, " ")})
	return h.Run(ctx, providers.Command{Script: script, Args: args, Stdin: &text})
}
