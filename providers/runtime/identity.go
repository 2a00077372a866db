package runtime

import (
	"fmt"
	"path"
	"regexp"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"berth.dev/berth/api"
)

var uidShape = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z-]{0,62}$`)

// checkIdentity refuses what must not become part of a path on a host.
func checkIdentity(pod *corev1.Pod) error {
	if !uidShape.MatchString(string(pod.UID)) {
		return fmt.Errorf("pod uid %q: not made of letters, digits and dashes", pod.UID)
	}
	if len(validation.IsDNS1123Label(pod.Namespace)) > 0 {
		return fmt.Errorf("pod %s: namespace %q is not a DNS label", pod.Name, pod.Namespace)
	}
	if len(validation.IsDNS1123Subdomain(pod.Name)) > 0 {
		return fmt.Errorf("pod name %q is not a DNS name", pod.Name)
	}
	for _, c := range allContainers(&pod.Spec) {
		if len(validation.IsDNS1123Label(c.Name)) > 0 {
			return fmt.Errorf("pod %s: container name %q is not a DNS label", pod.Name, c.Name)
		}
	}
	for _, v := range pod.Spec.Volumes {
		if len(validation.IsDNS1123Label(v.Name)) > 0 {
			return fmt.Errorf("pod %s: volume name %q is not a DNS label", pod.Name, v.Name)
		}
	}
	return nil
}

// allContainers returns the init containers and then the others.
func allContainers(spec *corev1.PodSpec) []*corev1.Container {
	var all []*corev1.Container
	for i := range spec.InitContainers {
		all = append(all, &spec.InitContainers[i])
	}
	for i := range spec.Containers {
		all = append(all, &spec.Containers[i])
	}
	return all
}

// podName is how messages name a pod.
func podName(pod *corev1.Pod) string { return pod.Namespace + "/" + pod.Name }

// podDir holds the files of one pod on its host.
func podDir(uid string) string { return path.Join(api.PodsDir, uid) }

// logDir is where the containers of a pod write their logs, as the kubelet lays it out.
func logDir(namespace, name, uid string) string {
	return path.Join(api.PodLogsDir, namespace+"_"+name+"_"+uid)
}

// logPath is a container's log below logDir.
func logPath(container string, attempt uint32) string {
	return fmt.Sprintf("%s/%d.log", container, attempt)
}

// terminationFile is where a container leaves its last words.
func terminationFile(uid, container string, attempt uint32) string {
	return path.Join(podDir(uid), "containers", container, fmt.Sprint(attempt))
}

// isSidecar reports whether an init container is to go on running beside the others.
func isSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}
