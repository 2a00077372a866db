package proxy

import (
	"context"
	"fmt"
	"strings"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/iptables"
)

// Observe fills in obs.Services: the hash kept with each service's rules if all of them are in force and none was added.
// A service whose rules were changed by hand shows with an empty hash, so that it is known to be here and wrong.
func (p *Provider) Observe(ctx context.Context, h providers.Host, obs *api.NodeObservation) error {
	out, err := h.Run(ctx, providers.Command{Script: observeScript})
	if err != nil {
		return fmt.Errorf("observe services on %s: %w", h.Name(), err)
	}
	known, wanted, live, hashes := map[string]int{}, map[string]int{}, map[string]int{}, map[string]string{} // by name
	for line := range strings.Lines(string(out.Stdout)) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		if obs.Services == nil {
			obs.Services = map[string]string{}
		}
		switch name := words[1]; {
		case words[0] == "live" && len(words) == 3:
			live[name]++
			obs.Services[name] = words[2]
			if hash, ok := hashes[name]; ok && hash != words[2] {
				live[name] = 0 // the families are not of one time
			}
			hashes[name] = words[2]
		case words[0] == "both":
			wanted[name] = 2
		case words[0] == "known":
			obs.Services[name] = ""
			known[name]++
		default: // "unfinished"
			obs.Services[name] = ""
			known[name] = len(words) + 2 // more than can be live
		}
	}
	for name := range obs.Services {
		if live[name] < max(known[name], wanted[name]) {
			obs.Services[name] = ""
		}
	}
	return nil
}

// observeScript prints for each family "known NAME" for a service that has rules here, "both NAME" for one that has them of both families,
// "live NAME HASH" for one whose rules are in force, and "unfinished NAME" for one that a run was changing when it was killed.
const observeScript = `PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
berth_net=` + api.NetworkDir + `
` + iptables.Prelude + `
for family in 4 6; do
	services=$berth_net/services
	if [ $family = 6 ]; then services=$berth_net/services6; fi
	set -- "$services"/*.rules
	if [ -e "$1" ]; then
		sed -n 's/^# berth \([^ ]*\) .*/known \1/p' "$@"
		awk '/^# berth / { name = $3 } $0 == "# ` + iptables.NoteBoth + `" { print "both", name }' "$@"
		if berth_ipt $family 2>/dev/null; then
			berth_dump 2>/dev/null | berth_live "$@" | sed 's/^/live /'
		fi
	fi
	for pending in "$berth_net/put$family/pending" "$services/pending"; do # the second is of an earlier version
		if [ -s "$pending" ]; then awk '!/^:/ { print "unfinished", $1 }' "$pending"; fi
	done
done
`
