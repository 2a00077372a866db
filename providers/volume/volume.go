// Package volume keeps managed volumes on a host: a directory each, below api.VolumesDir. It makes them, lists
// them, and removes one with everything in it when a plan says so; it never touches a path outside of that
// folder, and never decides that data may go.
package volume

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/mark"
)

// Provider carries out the volume operations.
type Provider struct{}

var _ providers.Provider = (*Provider)(nil)

// New returns the provider.
func New() *Provider { return &Provider{} }

// Name returns "volume".
func (*Provider) Name() string { return "volume" }

// Ops lists the volume operations.
func (*Provider) Ops() []api.Op { return []api.Op{api.OpVolumeEnsure, api.OpVolumeRemove} }

// Observe lists the volumes on the host, those of the state and others.
func (*Provider) Observe(ctx context.Context, h providers.Host, obs *api.NodeObservation) error {
	out, err := h.Run(ctx, providers.Command{Script: listScript, Args: []string{api.VolumesDir}})
	if err != nil {
		return fmt.Errorf("observe volumes on %s: %w", h.Name(), err)
	}
	obs.Volumes = nil
	for p := range bytes.SplitSeq(out.Stdout, []byte{0}) {
		namespace, name, ok := split(string(p))
		if !ok {
			continue // not made by us: nothing of ours has such a name
		}
		obs.Volumes = append(obs.Volumes, api.ObservedVolume{Namespace: namespace, Name: name, Path: string(p)})
	}
	slices.SortFunc(obs.Volumes, func(a, b api.ObservedVolume) int { return strings.Compare(a.Path, b.Path) })
	return nil
}

// Apply makes or removes one volume's directory.
func (*Provider) Apply(ctx context.Context, h providers.Host, w *providers.Work) (providers.Result, error) {
	v := w.Step.Volume
	if v == nil {
		return providers.Result{}, fmt.Errorf("step %s of %s carries no volume", w.Step.Op, w.Step.Address)
	}
	if _, _, ok := split(v.Path); !ok {
		return providers.Result{}, fmt.Errorf("volume %s: %q is not of the form %s/<namespace>/<name>", v.Address, v.Path, api.VolumesDir)
	}
	var script, doing string
	switch w.Step.Op {
	case api.OpVolumeEnsure:
		script, doing = ensureScript, "make"
	case api.OpVolumeRemove:
		script, doing = removeScript, "remove"
	default:
		return providers.Result{}, fmt.Errorf("volume does not know the operation %q", w.Step.Op)
	}
	ctx, h, err := mark.Guard(ctx, h, w)
	if err != nil {
		return providers.Result{}, err
	}
	if _, err := h.Run(ctx, providers.Command{Script: script, Args: []string{v.Path, path.Dir(v.Path), api.VolumesDir}}); err != nil {
		return providers.Result{}, fmt.Errorf("%s volume %s at %s: %w", doing, v.Address, v.Path, err)
	}
	return providers.Result{}, nil
}

// split takes a volume's path apart; false for a path that no volume has. It is what keeps the scripts inside of
// api.VolumesDir.
func split(p string) (namespace, name string, ok bool) {
	rest, inside := strings.CutPrefix(p, api.VolumesDir+"/")
	namespace, name, two := strings.Cut(rest, "/")
	if !inside || !two || len(validation.IsDNS1123Label(namespace)) > 0 || len(validation.IsDNS1123Subdomain(name)) > 0 {
		return "", "", false
	}
	return namespace, name, true
}

// The folders above are only for root to walk through; containers see a volume by a mount. The volume itself is open to
// every user of its containers, as local-path volumes are, until they give it an owner of their own.
const (
	listScript = `[ ! -d "$1" ] || find "$1" -mindepth 2 -maxdepth 2 -type d -print0`

	ensureScript = `set -eu
umask 022
[ ! -L "$1" ] || { echo "$1 is a symbolic link" >&2; exit 1; }
if [ ! -d "$1" ]; then
	mkdir -p -- "$2"
	new=$2/.new.${1##*/} # a name that no volume can have
	mkdir -p -- "$new"
	chmod 0777 -- "$new"
	mv -T -- "$new" "$1"
fi
`

	// Something mounted in a volume is somebody else's: it is not removed, and what is below is safe.
	removeScript = `set -eu
[ -e "$1" ] || [ -L "$1" ] || exit 0
[ -d "$1" ] && [ ! -L "$1" ] || { echo "$1 is not a directory" >&2; exit 1; }
if awk -v dir="$1" '$5 == dir || index($5, dir "/") == 1 { found = 1 } END { exit !found }' /proc/self/mountinfo; then
	echo "something is mounted on or below $1" >&2
	exit 1
fi
rm -rf --one-file-system -- "$1"
rmdir -- "$2" "$3" 2>/dev/null || :
`
)
