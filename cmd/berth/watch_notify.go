package main

import (
	"log/slog"

	"berth.dev/berth/api"
	"berth.dev/berth/watchdog"
)

// tell tells others of what is about no object: of the watchdog itself.
func (p *watchParts) tell(n watchdog.Notice) {
	e := api.ObjectEvent{Type: "Normal", Reason: n.Reason, Message: n.Message, Source: "watchdog", Last: p.teller.now()}
	if n.Warning {
		e.Type = "Warning"
	}
	p.teller.tell(e)
}

// notify tells people what the watchdog has to say: of nodes by an event that is kept, of itself in the log alone.
func (p *watchParts) notify(log *slog.Logger, events *watchEvents, n watchdog.Notice) {
	if n.Node != "" {
		e := api.ObjectEvent{Object: api.NodeEventObject(n.Node), Node: n.Node, Reason: n.Reason, Message: n.Message, Source: "watchdog"}
		if n.Warning {
			e.Type = "Warning"
		}
		events.add(e)
		return
	}
	p.tell(n)
	if n.Warning {
		log.Warn(n.Message, "reason", n.Reason)
		return
	}
	log.Info(n.Message, "reason", n.Reason)
}
