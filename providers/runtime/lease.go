package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/mark"
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

// A lease says until when pods may run that must run nowhere else, by the host's uptime. It lies in memory, as a reboot ends what it is about. A
// timer of systemd looks at it every second, and kills every process of these pods when it has run out: by their cgroups, so that containerd
// may be away. The timer leaves a trace each time, and nobody gives a lease on a host where there is none.

const (
	leaseDir  = api.HostDir + "/lease"
	leaseFile = "/run/berth/leases"
	leaseUnit = "/etc/systemd/system/" + api.LeaseUnit
)

// The statuses of renewScript.
const (
	statusNoTimer = 243
	statusStopped = 244
)

// renewScript gets the end of the lease in hundredths of a second, and uids.
const renewScript = `set -eu
umask 022
if ! [ -s ` + leaseFile + `.tick ] || ! [ -s ` + leaseDir + `/stop ] || ! [ -e ` + leaseUnit + `.timer ]; then exit 243; fi
read -r up _ </proc/uptime
read -r tick <` + leaseFile + `.tick
now=${up%.*}${up#*.}
[ $((${now#0} - ${tick#0})) -lt 500 ] || exit 244
for line; do echo "$line"; done >` + leaseFile + `.new
mv ` + leaseFile + `.new ` + leaseFile + `
echo "$up"
`

// stopScript is what the timer runs.
const stopScript = `# Written by Berth. It kills the pods whose lease has run out, and is removed with the node.
set -u
umask 022
read -r up _ </proc/uptime
now=${up%.*}${up#*.}
mkdir -p /run/berth
echo "$now" >` + leaseFile + `.tick.new && mv ` + leaseFile + `.tick.new ` + leaseFile + `.tick
[ -s ` + leaseFile + ` ] || exit 0
{
	read -r until
	[ "$now" -ge "$until" ] || exit 0
	while read -r uid; do
		slice=$(echo "$uid" | tr - _)
		find /sys/fs/cgroup -type d \( -name "pod$uid" -o -name "*-pod$slice.slice" \) -prune | while read -r dir; do
			if [ -e "$dir/cgroup.kill" ]; then echo 1 >"$dir/cgroup.kill"; fi
			find "$dir" -name cgroup.procs -exec cat {} + | sort -un | while read -r pid; do
				kill -9 "$pid" 2>/dev/null && echo "process $pid of pod $uid was killed: its lease has run out"
			done
		done
	done
} <` + leaseFile + `
exit 0
`

const leaseService = `# Written by Berth. It is removed with the node.
[Unit]
Description=Stop pods of Berth whose lease has run out

[Service]
Type=oneshot
ExecStart=/bin/sh ` + leaseDir + `/stop
LogLevelMax=notice
`

const leaseTimer = `# Written by Berth. It is removed with the node.
[Unit]
Description=Stop pods of Berth whose lease has run out

[Timer]
OnActiveSec=0
OnUnitInactiveSec=1s
AccuracySec=100ms

[Install]
WantedBy=timers.target
`

// installLeases gets the three files as arguments, puts the timer into force and waits for its first trace.
const installLeases = `set -eu
umask 022
command -v systemctl >/dev/null || { echo "there is no systemd on this host, which leases of pods need" >&2; exit 1; }
mkdir -p ` + leaseDir + `
printf '%s' "$1" >` + leaseDir + `/stop.new && mv ` + leaseDir + `/stop.new ` + leaseDir + `/stop
printf '%s' "$2" >` + leaseUnit + `.service
printf '%s' "$3" >` + leaseUnit + `.timer
systemctl daemon-reload
systemctl enable --quiet ` + api.LeaseUnit + `.timer 2>/dev/null || systemctl enable ` + api.LeaseUnit + `.timer >&2
rm -f ` + leaseFile + `.tick
systemctl restart ` + api.LeaseUnit + `.timer
n=0
until [ -s ` + leaseFile + `.tick ]; do
	n=$((n + 1))
	[ $n -lt 100 ] || { echo "the timer ` + api.LeaseUnit + `.timer does not run" >&2; exit 1; }
	sleep 0.05
done
`

// Leases say which pods of a host may run until when.
type Leases struct {
	Pods  []string      // uids
	Until time.Duration // what the host's uptime is then
}

// RenewLeases gives pods their lease, and takes it from all others, in one round trip; the work says for whom that is done: a host refuses whoever
// was outranked. It returns how long the host has been up. Where the timer does not run yet it is put into force first.
func RenewLeases(ctx context.Context, h providers.Host, w *providers.Work, l Leases) (time.Duration, error) {
	ctx, h, err := mark.Guard(ctx, h, w)
	if err != nil {
		return 0, err
	}
	c := providers.Command{Script: renewScript, Args: append([]string{strconv.FormatInt(l.Until.Milliseconds()/10, 10)}, l.Pods...)}
	out, err := h.Run(ctx, c)
	if exit, ok := errors.AsType[*providers.ExitError](err); ok && (exit.Status == statusNoTimer || exit.Status == statusStopped) {
		if _, err := h.Run(ctx, providers.Command{Script: installLeases, Args: []string{stopScript, leaseService, leaseTimer}}); err != nil {
			return 0, err
		}
		out, err = h.Run(ctx, c)
	}
	if err != nil {
		return 0, err
	}
	return parseUptime(h, out.Stdout)
}
