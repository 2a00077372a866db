package runtime

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/cri"
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
// gets the time as its suffix, containerd opens a new one, files rotated before are compressed, and the oldest go. It returns how many were
// rotated. A log that cannot be rotated stays as it was and does not keep the others from it; the errors of all are returned together.
func RotateLogs(ctx context.Context, h providers.Host, r Rotation, now time.Time) (int, error) {
	r = r.complete()
	m, err := open(h)
	if err != nil {
		return 0, err
	}
	list, err := m.containers(ctx, &runtimev1.ContainerFilter{State: &runtimev1.ContainerStateValue{State: runtimev1.ContainerState_CONTAINER_RUNNING}})
	if err != nil {
		return 0, m.explain(ctx, err)
	}
	var ids, files []string
	for _, c := range list {
		labels := c.GetLabels()
		if labels[api.LabelLineage] != "" {
			ids = append(ids, c.GetId())
			files = append(files, logDir(labels[api.LabelPodNamespace], labels[api.LabelPodName], labels[api.LabelPodUID])+"/"+logPath(c.GetMetadata().GetName(), c.GetMetadata().GetAttempt()))
		}
	}
	large, err := m.largeLogs(ctx, files, r.MaxBytes)
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, i := range large {
		if err := m.rotate(ctx, ids[i], files[i], r, now); err != nil {
			errs = append(errs, fmt.Errorf("rotate %s on %s: %w", files[i], m.Name(), err))
		}
	}
	return len(large) - len(errs), errors.Join(errs...)
}

// largeLogs returns the indexes of the files that are larger than the limit.
func (m *machine) largeLogs(ctx context.Context, files []string, limit int64) ([]int, error) {
	if len(files) == 0 {
		return nil, nil
	}
	const script = `for f do stat -c %s -- "$f" 2>/dev/null || echo 0; done`
	out, err := m.Run(ctx, providers.Command{Script: script, Args: files})
	if err != nil {
		return nil, fmt.Errorf("read the sizes of logs: %w", err)
	}
	sizes := strings.Fields(string(out.Stdout))
	if len(sizes) != len(files) {
		return nil, fmt.Errorf("read the sizes of logs on %s: %d answers about %d files", m.Name(), len(sizes), len(files))
	}
	var large []int
	for i, s := range sizes {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read the sizes of logs on %s: %w", m.Name(), err)
		}
		if n > limit {
			large = append(large, i)
		}
	}
	return large, nil
}

func (m *machine) rotate(ctx context.Context, id, file string, r Rotation, now time.Time) error {
	stamp := now.UTC().Format("20060102-150405")
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
// the new one. What a killed process left half done is tidied up. The newest rotated file is compressed only when it is not the newest any more:
// somebody may still be reading it.
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
	if [ "$n" -gt "$3" ]; then
		rm -f -- "$f"
		n=$((n - 1))
		continue
	fi
	case $f in
	*.gz) ;;
	*)
		gzip -c -- "$f" >"$f.gz.tmp"
		touch -r "$f" -- "$f.gz.tmp"
		mv -- "$f.gz.tmp" "$f.gz"
		rm -f -- "$f"
		;;
	esac
done
mv -- "$1" "$1.$2"
`
