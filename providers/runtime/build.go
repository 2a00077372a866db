package runtime

import (
	"cmp"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/providers"
)

// build is a pod about to become CRI messages and files: the work with what only the host knows. Its methods do
// no I/O, so the same work on the same host gives the same messages.
type build struct {
	work   *providers.Work
	pod    *corev1.Pod
	node   string // the node's name
	nodeIP string
	ip     string // the pod's; "" before there is a sandbox
	// Of the cluster's second family; "" where it has one.
	secondNodeIP, secondIP string

	// firstUser is the first of the pod's own users on the node; 0 when it has none.
	firstUser uint32
	facts     *facts
	objects   objects
	volumes   map[string]volume // by name
}

// newBuild resolves what does not depend on the pod's IP, so that what is missing shows before anything is made.
func newBuild(w *providers.Work, node string, f *facts) (*build, error) {
	b := bare(w, node, f)
	pod := b.pod
	var err error
	if b.volumes, err = b.resolveVolumes(); err != nil {
		return nil, err
	}
	for _, c := range allContainers(&pod.Spec) {
		if _, err := b.environment(c); err != nil {
			return nil, fmt.Errorf("container %s: %w", c.Name, err)
		}
	}
	return b, nil
}

// withIP completes the build when the sandbox is there.
func (b *build) withIP(ip, second string) (*build, error) {
	done := *b
	done.ip, done.secondIP = ip, second
	if b.pod.Spec.HostNetwork && ip == "" {
		done.ip, done.secondIP = b.nodeIP, b.secondNodeIP
	}
	var err error
	done.volumes, err = done.resolveVolumes() // downward API files may tell the IP
	return &done, err
}

// bare is a build with nothing resolved yet.
func bare(w *providers.Work, node string, f *facts) *build {
	pod := w.Step.Pod.Pod
	return &build{
		work: w, pod: pod, node: node, facts: f,
		nodeIP: cmp.Or(w.NodeIP, f.ip), secondNodeIP: w.SecondNodeIP,
		objects: newObjects(pod.Namespace, w.Objects),
	}
}
