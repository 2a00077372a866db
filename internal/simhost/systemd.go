package simhost

import (
	"bytes"
	"context"
	"strings"
	"time"

	"berth.dev/berth/internal/simhost/shell"
)

// wants is the folder of the units that a target starts.
func wants(target string) string { return "/etc/systemd/system/" + target + ".target.wants/" }

// startTimers puts the timers into force that are enabled, as a boot does.
func (h *Host) startTimers(ctx context.Context) {
	list, err := h.disk.List(strings.TrimSuffix(wants("timers"), "/"))
	must(err)
	for _, f := range list {
		if ctx.Err() == nil {
			h.startTimer(f.Name)
		}
	}
}

// startTimer has the service of a timer run at once and then, each time that it has ended, after the timer's OnUnitInactiveSec. It knows no others.
func (h *Host) startTimer(unit string) {
	text, err := h.disk.ReadFile("/etc/systemd/system/" + unit)
	if err != nil {
		return // a link to a unit that is gone
	}
	every, err := time.ParseDuration(unitSetting(text, "OnUnitInactiveSec"))
	if err != nil {
		return // one that was torn by a loss of power
	}
	h.stopTimer(unit)
	h.mu.Lock()
	ctx, stop := context.WithCancel(h.ctx)
	h.timers[unit] = stop
	m := h.machine
	h.mu.Unlock()
	go func() { // ends with the timer, or the host's power
		for ctx.Err() == nil {
			if service, err := h.disk.ReadFile("/etc/systemd/system/" + strings.TrimSuffix(unit, ".timer") + ".service"); err == nil {
				m.Run(ctx, unitSetting(service, "ExecStart"), nil, nil, shell.Streams{})
			}
			select {
			case <-time.After(every):
			case <-ctx.Done():
			}
		}
	}()
}

func (h *Host) stopTimer(unit string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if stop := h.timers[unit]; stop != nil {
		stop()
		delete(h.timers, unit)
	}
}

// unitSetting is a setting of a unit that stands there once; "" when it does not.
func unitSetting(unit []byte, key string) string {
	for line := range bytes.Lines(unit) {
		if value, ok := bytes.CutPrefix(line, []byte(key+"=")); ok {
			return string(bytes.TrimSpace(value))
		}
	}
	return ""
}
