package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/cri"
	"berth.dev/berth/providers/internal/mark"
)

// Rotation says when a log is rotated, and how much of it is kept.
type Rotation struct {
	MaxBytes int64 // a file that is larger is rotated; 0 means 10 MiB, the kubelet's default
	MaxFiles int   // files kept of each container's run, the one that is written included; at least 2; 0 means 5, the kubelet's default
}

func (r Rotation) complete() Rotation {
	if r.MaxBytes <= 0 {
		r.MaxBytes = 10 << 20
	}
	if r.MaxFiles <= 0 {
		r.MaxFiles = 5
	}
	r.MaxFiles = max(r.MaxFiles, 2)
	return r
}

// RotateLogs rotates the logs of our running containers on a host that have grown too large, in the kubelet's way (semantics.md 1.14): the file
// gets the time as its suffix, containerd opens a new one, the oldest files go, and those rotated before are compressed. It returns those that were
// rotated, sorted. A log that cannot be rotated stays as it was and does not keep the others from it; the errors of all are returned together.
// Compressing comes last and may take compressTime: a file that could not be compressed stays as it is until its turn to go, and the error says so.
//
// Where no log is too large, this is one round trip. The work says under which lock it is done.
func RotateLogs(ctx context.Context, h providers.Host, w *providers.Work, r Rotation, now time.Time) ([]string, error) {
	r = r.complete()
	large, err := largeLogs(ctx, h, r.MaxBytes)
	if err != nil || len(large) == 0 {
		return nil, err
	}
	ctx, h, err = mark.Guard(ctx, h, w)
	if err != nil {
		return nil, err
	}
	m, err := open(h)
	if err != nil {
		return nil, err
	}
	list, err := m.containers(ctx, &runtimev1.ContainerFilter{State: &runtimev1.ContainerStateValue{State: runtimev1.ContainerState_CONTAINER_RUNNING}})
	if err != nil {
		return nil, m.explain(ctx, err)
	}
	var done []string
	var errs []error
	for _, c := range list {
		labels := c.GetLabels()
		file := logDir(labels[api.LabelPodNamespace], labels[api.LabelPodName], labels[api.LabelPodUID]) + "/" + logPath(c.GetMetadata().GetName(), c.GetMetadata().GetAttempt())
		if labels[api.LabelLineage] == "" || !large[file] {
			continue
		}
		if err := m.rotate(ctx, c.GetId(), file, r, now); err != nil {
			errs = append(errs, fmt.Errorf("rotate %s on %s: %w", file, m.Name(), err))
			continue
		}
		done = append(done, file)
	}
	slices.Sort(done)
	return done, errors.Join(append(errs, m.compress(ctx, done, now))...)
}

// compressTime is how long compressing may take on a host, all its logs together.
const compressTime = time.Minute

// compress compresses what was rotated before, of logs that have been rotated now.
func (m *machine) compress(ctx context.Context, files []string, now time.Time) error {
	limited, cancel := context.WithTimeout(ctx, compressTime)
	defer cancel()
	var errs []error
	for _, file := range files {
		_, err := m.Run(limited, providers.Command{Script: compressScript, Args: []string{file, stampOf(now)}})
		if err == nil {
			continue
		}
		late := limited.Err() != nil && ctx.Err() == nil
		if late { // which says nothing about the host
			err = fmt.Errorf("it takes longer than %s", compressTime)
		}
		errs = append(errs, fmt.Errorf("%s on %s is rotated, but not all that was rotated before could be compressed: %w", file, m.Name(), err))
		if late || ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

func stampOf(now time.Time) string { return now.UTC().Format("20060102-150405") }

// largeLogs are the logs that are larger than the limit, whosever they are.
func largeLogs(ctx context.Context, h providers.Host, limit int64) (map[string]bool, error) {
	const script = `[ ! -d ` + api.PodLogsDir + ` ] || find ` + api.PodLogsDir + ` -mindepth 3 -maxdepth 3 -type f -name '*.log' -size "+$1c" -print`
	out, err := h.Run(ctx, providers.Command{Script: script, Args: []string{strconv.FormatInt(limit, 10)}})
	if err != nil {
		return nil, fmt.Errorf("look for large logs: %w", err)
	}
	large := map[string]bool{}
	for f := range strings.Lines(string(out.Stdout)) {
		large[strings.TrimSuffix(f, "\n")] = true
	}
	return large, nil
}

func (m *machine) rotate(ctx context.Context, id, file string, r Rotation, now time.Time) error {
	stamp := stampOf(now)
	_, err := m.Run(ctx, providers.Command{Script: rotateScript, Args: []string{file, stamp, strconv.Itoa(r.MaxFiles - 2)}})
	if err != nil {
		return err
	}
	_, err = m.cri.Runtime.ReopenContainerLog(ctx, &runtimev1.ReopenContainerLogRequest{ContainerId: id})
	if err == nil || cri.IsNotFound(err) {
		return nil
	}
	const back = `[ -e "$1" ] || mv -- "$1.$2" "$1"` // it goes on writing to the file, which should have its name
	if _, undo := m.Run(context.WithoutCancel(ctx), providers.Command{Script: back, Args: []string{file, stamp}}); undo != nil {
		err = errors.Join(err, undo)
	}
	return fmt.Errorf("have containerd open a new file: %w", err)
}

// rotateScript makes room for one more rotated file and renames the log: $1 is the file, $2 the time, $3 how many rotated files may stay beside
// the new one. What a killed process left half done is tidied up.
const rotateScript = `set -eu
export LC_ALL=C
[ ! -e "$1.$2" ] && [ ! -e "$1.$2.gz" ] || { echo "it was rotated in this second already" >&2; exit 1; }
n=0
for f in "$1".*; do
	[ -e "$f" ] || continue
	case $f in
	*.tmp) rm -f -- "$f"; continue ;;
	*.gz) ;;
	*) rm -f -- "$f.gz" ;;
	esac
	n=$((n + 1))
done
for f in "$1".*; do
	[ -e "$f" ] || continue
	[ "$n" -gt "$3" ] || break
	rm -f -- "$f"
	n=$((n - 1))
done
mv -- "$1" "$1.$2"
`

// compressScript compresses the rotated files of the log $1 but that of the time $2: the newest is compressed only when it is not the newest any
// more, as somebody may still be reading it.
const compressScript = `set -u
export LC_ALL=C
status=0
for f in "$1".*; do
	case $f in
	*.gz | *.tmp | "$1.$2") continue ;;
	esac
	[ -e "$f" ] || continue
	if gzip -c -- "$f" >"$f.gz.tmp" && touch -r "$f" -- "$f.gz.tmp" && mv -- "$f.gz.tmp" "$f.gz"; then
		rm -f -- "$f"
	else
		rm -f -- "$f.gz.tmp"
		status=1
	fi
done
exit $status
`
