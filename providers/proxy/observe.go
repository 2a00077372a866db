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
			obs.Services[name] = words[2]
		default: // "known", and after all others "unfinished"
			obs.Services[name] = ""
		}
	}
	return nil
}

// observeScript prints "known NAME" for each service that has rules here, "live NAME HASH" for those whose rules are in force, and
// "unfinished NAME" for those that a run was changing when it was killed.
const observeScript = `PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
berth_net=` + api.NetworkDir + `
` + iptables.Prelude + `
set -- "$berth_net"/services/*.rules
if [ -e "$1" ]; then
	sed -n 's/^# berth \([^ ]*\) .*/known \1/p' "$@"
	if berth_ipt 2>/dev/null; then
		berth_dump 2>/dev/null | berth_live "$@" | sed 's/^/live /'
	fi
fi
if [ -e "$berth_net/services/pending" ]; then awk '{ print "unfinished", $1 }' "$berth_net/services/pending"; fi
`
