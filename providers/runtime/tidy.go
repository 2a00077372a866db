package runtime

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/mark"
)

// Tidied is what was taken away from a host.
type Tidied struct {
	Containers []string // ids of runs that ended before the last one did
	Logs       []string // rotated files of such runs
	Leases     []string // addresses that were given to sandboxes which do not exist
	Scratch    []string // files of scripts that were stopped half-way
}

// IsZero reports whether there was nothing.
func (t Tidied) IsZero() bool {
	return len(t.Containers)+len(t.Logs)+len(t.Leases)+len(t.Scratch) == 0
}

// Ages below which nothing is taken for left behind: a sandbox has its address for some time before containerd lists it, and a script may take
// as long as the longest step.
const (
	leaseAge   = 10 * time.Minute
	scratchAge = time.Hour
)

// Tidy takes away what is of no use to anybody: all but the last two runs of each container of ours (as the kubelet's collector does with
// maxPerPodContainer 1, the run that is on not counted), their logs, addresses that a crash has left in use, and files of scripts that were
// stopped. Where there is nothing of that it costs one round trip. The work says under which lock it is done.
func Tidy(ctx context.Context, h providers.Host, w *providers.Work) (Tidied, error) {
	m, err := open(h)
	if err != nil {
		return Tidied{}, err
	}
	l, err := m.leftovers(ctx)
	if err != nil {
		return Tidied{}, m.explain(ctx, err)
	}
	found, pairs := l.decide()
	if found.IsZero() {
		return found, nil
	}
	ctx, h, err = mark.Guard(ctx, h, w)
	if err != nil {
		return Tidied{}, err
	}
	if m, err = open(h); err != nil {
		return Tidied{}, err
	}
	done := Tidied{}
	var errs []error
	for _, id := range found.Containers {
		if err := m.removeContainer(ctx, id); err != nil {
			errs = append(errs, err)
			continue
		}
		done.Containers = append(done.Containers, id)
	}
	args := slices.Concat([]string{strconv.Itoa(len(pairs)), strconv.Itoa(len(found.Logs))}, pairs, found.Logs, found.Scratch)
	if len(args) > 2 {
		if _, err := m.Run(ctx, providers.Command{Script: tidyScript, Args: args}); err != nil {
			return done, errors.Join(append(errs, fmt.Errorf("take away what was left behind: %w", err))...)
		}
		done.Logs, done.Leases, done.Scratch = found.Logs, found.Leases, found.Scratch
	}
	return done, errors.Join(errs...)
}

// leftovers are what may be of no use, as it was seen.
type leftovers struct {
	now        time.Time // by the host's clock
	boxes      map[string]bool
	containers []*runtimev1.Container
	leases     []lease
	scratch    []aged
	rotated    []string // paths
}

// lease is an address in use: the plugin host-local keeps a file for each.
type lease struct {
	address, sandbox string
	at               time.Time
}

type aged struct {
	name string
	at   time.Time
}

// leftovers looks, in one round trip.
func (m *machine) leftovers(ctx context.Context) (*leftovers, error) {
	l := &leftovers{boxes: map[string]bool{}}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		resp, err := m.cri.Runtime.ListPodSandbox(gctx, &runtimev1.ListPodSandboxRequest{})
		for _, s := range resp.GetItems() {
			l.boxes[s.GetId()] = true
		}
		return err
	})
	g.Go(func() (err error) { l.containers, err = m.containers(gctx, nil); return err })
	var text string
	g.Go(func() error {
		out, err := m.Run(gctx, providers.Command{Script: leftoverScript})
		text = string(out.Stdout)
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("look for what was left behind: %w", err)
	}
	return l, l.read(text)
}

// What names have to look like. Whoever has an account on a host can make files in /tmp with any name.
var (
	scratchName = regexp.MustCompile(`^` + regexp.QuoteMeta(api.ScratchPrefix) + `[A-Za-z0-9]{10}$`)
	sandboxID   = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
	rotatedLog  = regexp.MustCompile(`^[0-9]+\.log\.[0-9]{8}-[0-9]{6}(\.gz)?(\.tmp)?$`)
)

// read takes in what leftoverScript says: a "now" line, "id" (of a lease's sandbox), "at" (of a lease or scratch file) lines, and after a "logs" line
// paths that end with a NUL each. Anything else is refused as a whole.
func (l *leftovers) read(text string) error {
	lines, logs, _ := strings.Cut(text, "\nlogs\n")
	ids := map[string]string{}
	for n, line := range strings.Split(lines, "\n") {
		f := strings.Split(line, " ")
		refused := fmt.Errorf("the host says %q of what was left behind", line)
		if (n == 0) != (f[0] == "now" && len(f) == 2) || n > 0 && len(f) != 3 {
			return refused
		}
		if f[0] == "id" {
			if _, err := netip.ParseAddr(f[1]); err != nil || !sandboxID.MatchString(f[2]) {
				return refused
			}
			ids[f[1]] = f[2]
			continue
		}
		seconds, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			return refused
		}
		at := time.Unix(seconds, 0)
		switch {
		case n == 0:
			l.now = at
		case f[0] == "at" && path.Dir(f[2]) == api.CNILeases:
			if id := ids[path.Base(f[2])]; id != "" {
				l.leases = append(l.leases, lease{path.Base(f[2]), id, at})
			}
		case f[0] == "at" && scratchName.MatchString(f[2]):
			l.scratch = append(l.scratch, aged{f[2], at})
		default:
			return refused
		}
	}
	for f := range strings.SplitSeq(logs, "\x00") {
		if path.Clean(f) == f && rotatedLog.MatchString(path.Base(f)) {
			l.rotated = append(l.rotated, f)
		}
	}
	return nil
}

// decide says what goes, and for the leases pairs of address and sandbox, by which they are recognised when they go.
func (l *leftovers) decide() (t Tidied, pairs []string) {
	latest := map[string]uint32{} // by log directory
	dirOf := func(c *runtimev1.Container) string {
		labels := c.GetLabels()
		return logDir(labels[api.LabelPodNamespace], labels[api.LabelPodName], labels[api.LabelPodUID]) + "/" + c.GetMetadata().GetName()
	}
	for _, c := range l.containers {
		if c.GetLabels()[api.LabelLineage] != "" {
			latest[dirOf(c)] = max(latest[dirOf(c)], c.GetMetadata().GetAttempt())
		}
	}
	for _, c := range l.containers {
		over := c.GetState() == runtimev1.ContainerState_CONTAINER_EXITED || c.GetState() == runtimev1.ContainerState_CONTAINER_CREATED
		if c.GetLabels()[api.LabelLineage] != "" && over && c.GetMetadata().GetAttempt()+1 < latest[dirOf(c)] {
			t.Containers = append(t.Containers, c.GetId())
		}
	}
	for _, f := range l.rotated {
		run, _, _ := strings.Cut(path.Base(f), ".")
		n, err := strconv.ParseUint(run, 10, 32)
		if newest, ours := latest[path.Dir(f)]; err == nil && ours && n+1 < uint64(newest) {
			t.Logs = append(t.Logs, f)
		}
	}
	for _, x := range l.leases {
		if !l.boxes[x.sandbox] && l.now.Sub(x.at) > leaseAge {
			t.Leases = append(t.Leases, x.address)
			pairs = append(pairs, x.address, x.sandbox)
		}
	}
	for _, s := range l.scratch {
		if l.now.Sub(s.at) > scratchAge {
			t.Scratch = append(t.Scratch, s.name)
		}
	}
	slices.Sort(t.Containers)
	slices.Sort(t.Logs)
	slices.Sort(t.Scratch)
	return t, pairs
}

// scratchGlob are the names that mktemp makes of api.Scratch, and no others: as many letters and digits as that has X.
const scratchGlob = api.ScratchPrefix + `[A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9]`

// leftoverScript lists leases with the sandboxes that they were given to, files of scripts, and logs that were rotated. A lease's first line is the
// sandbox. Names are looked at before they are printed, so that none can pass for a line of its own; files of scripts are those of this user.
const leftoverScript = `export LC_ALL=C
echo "now $(date +%s)"
cr=$(printf '\r')
set -- ` + api.CNILeases + `/*.*.*.* ` + api.CNILeases + `/*:*
for f do
	shift
	[ -f "$f" ] && [ ! -L "$f" ] || continue
	case ${f##*/} in
	*[!0-9A-Fa-f.:]*) continue ;;
	esac
	id=
	IFS= read -r id <"$f" || :
	id=${id%"$cr"}
	case $id in
	"" | *[!0-9A-Za-z._-]*) continue ;;
	esac
	echo "id ${f##*/} $id"
	set -- "$@" "$f"
done
for f in ` + scratchGlob + `; do
	case $f in
	` + scratchGlob + `) [ -L "$f" ] || [ ! -O "$f" ] || set -- "$@" "$f" ;;
	esac
done
[ $# = 0 ] || stat -c 'at %Y %n' -- "$@" 2>/dev/null || : # one may have gone meanwhile
echo logs
[ ! -d ` + api.PodLogsDir + ` ] || find ` + api.PodLogsDir + ` -mindepth 3 -maxdepth 3 -type f -name '*.log.*' -print0
`

// tidyScript takes away leases ($1 says how many arguments they take: address and sandbox), logs ($2 says how many) and files of scripts. A lease goes
// under the lock of the plugin that gives them, and only if it is still that sandbox's; a file of a script only if it is still this user's.
const tidyScript = `set -eu
export LC_ALL=C
n=$1
logs=$2
shift 2
if [ "$n" -gt 0 ]; then
	cd ` + api.CNILeases + `
	exec 8>>lock
	flock -w 10 8 || { echo "the lock of ` + api.CNILeases + ` is held" >&2; exit 1; }
	cr=$(printf '\r')
	while [ "$n" -gt 0 ]; do
		id=
		IFS= read -r id <"./$1" 2>/dev/null || :
		[ "${id%"$cr"}" != "$2" ] || rm -f -- "./$1"
		shift 2
		n=$((n - 2))
	done
	exec 8>&-
fi
while [ "$logs" -gt 0 ]; do
	rm -f -- "$1"
	shift
	logs=$((logs - 1))
done
for f do
	case $f in
	` + scratchGlob + `) [ -L "$f" ] || [ ! -O "$f" ] || rm -rf -- "$f" ;;
	*) echo "$f is no file of a script" >&2; exit 1 ;;
	esac
done
`
