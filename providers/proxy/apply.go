package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/iptables"
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
	var rules *iptables.Rules
	absent := ""
	switch w.Step.Op {
	case api.OpServiceSet:
		var err error
		if rules, err = Render(w.Step.Service, w.Endpoints, w.Step.Node, w.Cluster.PodCIDR); err != nil {
			return providers.Result{}, err
		}
	case api.OpServiceRemove:
		rules = &iptables.Rules{Name: svc.Namespace + "/" + svc.Name, Hash: "-"}
		absent = "berth_mark_absent=done\n" // rules that went with the whole node
	default:
		return providers.Result{}, fmt.Errorf("provider proxy does not carry out %s", w.Step.Op)
	}
	if err := p.put(ctx, h, w, rules, absent); err != nil {
		return providers.Result{}, fmt.Errorf("%s of %s on %s: %w", verb(w.Step.Op), rules.Name, h.Name(), err)
	}
	return providers.Result{}, nil
}

func verb(op api.Op) string {
	if op == api.OpServiceRemove {
		return "remove rules"
	}
	return "set rules"
}

func (p *Provider) put(ctx context.Context, h providers.Host, w *providers.Work, rules *iptables.Rules, absent string) error {
	args, err := mark.Args(w)
	if err != nil {
		return err
	}
	// Neither namespaces nor names have underscores.
	args = append(args, strings.ReplaceAll(rules.Name, "/", "_"), string(w.Step.Op))
	out, err := h.Run(ctx, providers.Command{
		Script: absent + putScript,
		Args:   args,
		Stdin:  strings.NewReader(rules.Text()),
	})
	if err != nil {
		if exit, ok := errors.AsType[*providers.ExitError](err); ok && exit.Status == statusNoNetwork {
			return &api.DiagnosticsError{Diagnostics: api.Diagnostics{{
				Severity: api.SeverityError, Summary: "Pod network is not set up", Node: h.Name(),
				Detail: "The host lacks the chains that services hang from: they were removed since the plan was made. Plan again.",
			}}}
		}
		return mark.Err(h, err)
	}
	if w.Report != nil && bytes.Contains(out.Stdout, []byte("no conntrack")) {
		w.Report("conntrack is not installed: UDP clients may go on talking to pods that are gone; run berth node prepare")
	}
	return nil
}

// statusNoNetwork is how putScript says that the static chains are missing.
const statusNoNetwork = 78

// putScript takes the rules on standard input, as Rules.Text writes them, and the service's file name.
//
// A name of a chain is written down before the chain is made and crossed out after it is gone, so that a run that was killed
// leaves nothing behind for good.
const putScript = mark.Check + iptables.Prelude + `
dir=$berth_net/services file=$1 op=$2
rules=$dir/$file.rules chains=$dir/$file.chains
mkdir -p "$dir"
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
cat >"$t/rules"
berth_ipt
berth_write_mark
if [ -e "$rules" ] && [ ! -e "$chains" ] && cmp -s "$t/rules" "$rules" && [ -n "$(berth_dump | berth_live "$rules")" ]; then exit 0; fi

list() { awk '/^\*/ { t = substr($1, 2) } /^:/ { print t, substr($1, 2) }' "$@"; }
list "$t/rules" | sort >"$t/new"
{
	cat "$t/new"
	if [ -e "$rules" ]; then list "$rules"; fi
	if [ -e "$chains" ]; then cat "$chains"; fi
} | sort -u >"$t/known"
cp "$t/known" "$chains.new"
mv "$chains.new" "$chains"
comm -13 "$t/new" "$t/known" >"$t/stale"

for table in nat filter; do
	echo "*$table"
	for c in BERTH-SERVICES BERTH-NODEPORTS; do "$ipt" -w 5 -t $table -S $c 2>/dev/null || [ "$op" = service.remove ] || exit 78; done
done >"$t/live"
berth_compose "$t/stale" "$t/rules" <"$t/live" >"$t/change"
berth_restore "$t/change"

# What the kernel remembers of UDP senders goes on to endpoints that are gone, or to none: forget it.
{
	sed -n 's/^# udp //p' "$t/rules"
	if [ -e "$rules" ]; then
		sed -n 's/^# udp //p' "$rules" | while read -r to port rest; do
			grep -q "^# udp $to $port\( \|\$\)" "$t/rules" || echo "$to $port"
		done
	fi
} >"$t/udp"
if [ -s "$t/udp" ]; then
	if ! command -v conntrack >/dev/null; then
		echo no conntrack
	else
		here=" $(ip -4 -o addr show | awk '{ sub(/\/.*/, "", $4); print $4 }' | tr '\n' ' ')"
		while read -r to port ends; do
			case $to in
			node) conntrack -L -p udp --orig-port-dst "$port" 2>/dev/null || : ;;
			*) conntrack -L -p udp --orig-dst "$to" --orig-port-dst "$port" 2>/dev/null || : ;;
			esac | awk -v to="$to" -v here="$here" -v ends=" $ends " '
			{
				n = 0; dst = ""
				for (i = 1; i <= NF; i++) {
					if ($i ~ /^dst=/ && dst == "") dst = substr($i, 5)
					if ($i ~ /^src=/ && ++n == 2) from = substr($i, 5)
				}
				if (to == "node" && !index(here, " " dst " ")) next
				if (!index(ends, " " from " ")) print dst, from
			}' | sort -u | while read -r dst from; do
				conntrack -D -p udp --orig-dst "$dst" --orig-port-dst "$port" --reply-src "$from" >/dev/null 2>&1 || :
			done
		done <"$t/udp"
	fi
fi

if [ "$op" = service.remove ]; then
	rm -f "$rules"
else
	cp "$t/rules" "$rules.new"
	mv "$rules.new" "$rules"
fi
rm -f "$chains"
`
