package runtime

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

// Each pod's folder says whose it is, in a file "owner". It is the first thing in it and the last that goes: when a process is killed after a pod's
// sandbox has gone and before everything else of it has, the next one knows by it what is left. The scripts rely on no other name in a pod's
// folder beginning with "o".

// owner is what the file holds, in one line of JSON.
type owner struct {
	Address   string `json:"address"` // of what the pod belongs to
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
	Lineage   string `json:"lineage"`
}

// ownerText is the line for the pod of a step.
func ownerText(w *providers.Work, pod *corev1.Pod) (string, error) {
	line, err := json.Marshal(owner{w.Step.Address.Owner().String(), pod.Namespace, pod.Name, string(pod.UID), w.Lineage})
	if err != nil {
		return "", fmt.Errorf("say whose the files of pod %s are: %w", podName(pod), err)
	}
	return string(line), nil
}

// own leaves the line in the folder of a pod that may have none yet.
func (m *machine) own(ctx context.Context, w *providers.Work, pod *corev1.Pod) error {
	line, err := ownerText(w, pod)
	if err != nil {
		return err
	}
	if _, err := m.Run(ctx, providers.Command{Script: ownScript, Args: []string{podDir(string(pod.UID)), line}}); err != nil {
		return fmt.Errorf("say whose the files of pod %s are: %w", podName(pod), err)
	}
	return nil
}

const ownScript = `set -eu
umask 077
mkdir -p -- "$1"
[ -s "$1/owner" ] || printf '%s\n' "$2" >"$1/owner"
`

// remainsOf reads the lines of all folders on a host into what is left of pods without a sandbox, by those that have one. A line that is none, or names what
// must not become part of a path, tells nothing.
func remainsOf(said []byte, here func(uid string) bool) []api.ObservedRemains {
	var out []api.ObservedRemains
	for line := range strings.Lines(string(said)) {
		var o owner
		if !strings.HasPrefix(line, "{") || json.Unmarshal([]byte(line), &o) != nil || here(o.UID) {
			continue
		}
		if checkIdentity(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name, UID: types.UID(o.UID)}}) != nil {
			continue
		}
		if of, err := api.ParseAddress(o.Address); err == nil {
			out = append(out, api.ObservedRemains{Address: of.WithPod(o.Name), Namespace: o.Namespace, Name: o.Name, UID: o.UID, Lineage: o.Lineage})
		}
	}
	slices.SortFunc(out, func(a, b api.ObservedRemains) int { return cmp.Compare(a.UID, b.UID) })
	return slices.CompactFunc(out, func(a, b api.ObservedRemains) bool { return a.UID == b.UID })
}
