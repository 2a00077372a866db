package runtime_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/volume"
)

func local(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }

// allVolumes is a pod with a volume of every kind.
func allVolumes(t *testing.T, f *fixture) *corev1.Pod {
	pod := f.pod(t)
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: new(int64(1000)), FSGroup: new(int64(2000))}
	pod.Spec.Volumes = []corev1.Volume{
		{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: local("settings")}}},
		{Name: "keys", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
			SecretName: "keys", DefaultMode: new(int32(0o400)),
			Items: []corev1.KeyToPath{{Key: "token", Path: "deep/er/token"}, {Key: "token", Path: "open", Mode: new(int32(0o444))}},
		}}},
		{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "fast", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: new(resource.MustParse("1Mi"))}}},
		{Name: "node", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/etc", Type: new(corev1.HostPathDirectory)}}},
		{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "db"}}},
		{Name: "self", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
				{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}},
				{Path: "ip", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}},
			}}},
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: local("nobody"), Optional: new(true)}},
		}}}},
	}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{
		{Name: "config", MountPath: "/config"}, {Name: "keys", MountPath: "/keys"}, {Name: "scratch", MountPath: "/scratch"},
		{Name: "fast", MountPath: "/fast"}, {Name: "node", MountPath: "/node", ReadOnly: true}, {Name: "data", MountPath: "/data"},
		{Name: "self", MountPath: "/self"}, {Name: "data", MountPath: "/part", SubPath: "a/b"}, {Name: "config", MountPath: "/one.conf", SubPath: "app.conf"},
	}
	return pod
}

func TestVolumes(t *testing.T) {
	f := host(t)
	before := f.inventory(t)
	const dir = api.VolumesDir + "/default/db"
	vol := &providers.Work{Step: &api.Step{Op: api.OpVolumeEnsure, Volume: &api.VolumeState{Path: dir}}}
	if _, err := volume.New().Apply(t.Context(), f, vol); err != nil {
		t.Fatal(err)
	}
	j := f.take(t, allVolumes(t, f), configMap("settings", map[string]string{"app.conf": "colour = blue\n", "other": "x"}), secret("keys", map[string]string{"token": "s3cret"}))
	j.work.Step.Pod.Claims = map[string]string{"db": dir}
	ip := j.must(api.OpPodEnsure, api.OpPodReady).Pod.IP

	contents := []struct{ path, want string }{
		{"/config/app.conf", "colour = blue"}, {"/config/other", "x"}, {"/one.conf", "colour = blue"},
		{"/keys/deep/er/token", "s3cret"}, {"/keys/open", "s3cret"}, {"/node/hostname", f.node.Name},
		{"/self/labels", `app="web"`}, {"/self/ip", ip},
	}
	for _, c := range contents {
		if got := j.run("app", "cat", c.path); got != c.want {
			t.Errorf("%s holds %q, want %q", c.path, got, c.want)
		}
	}
	want := "0440 0:2000 /keys/deep/er/token\n0444 0:2000 /keys/open\n0644 0:2000 /config/app.conf\n2777 0:2000 /scratch\n" +
		"2755 0:2000 /config\n2755 0:2000 /keys\n2755 0:2000 /keys/deep/er\n2777 0:2000 /fast\n2777 0:2000 /data"
	if diff := cmp.Diff(want, j.run("app", "stat", "/keys/deep/er/token", "/keys/open", "/config/app.conf", "/scratch", "/config", "/keys", "/keys/deep/er", "/fast", "/data")); diff != "" {
		t.Errorf("modes (-want +got):\n%s", diff)
	}
	for _, file := range []string{"/scratch/a", "/fast/a", "/data/c", "/part/inside"} {
		j.run("app", "put", file, "written")
	}
	if got := f.sh(t, `cat "$1/c" "$1/a/b/inside"`, dir); got != "writtenwritten" {
		t.Errorf("the managed volume: %s", got)
	}

	secrets := api.PodsDir + "/" + string(j.pod.UID) + "/volumes/kubernetes.io~secret/keys"
	if got := f.sh(t, `findmnt -n -o FSTYPE -M "$1"; stat -c %a "$2"; readlink "$1/open"`, secrets, api.PodsDir); got != "tmpfs\n700\n..data/open" {
		t.Errorf("the secret's folder: %q", got)
	}
	if got := f.sh(t, `findmnt -n -o SIZE -M "$1"`, api.PodsDir+"/"+string(j.pod.UID)+"/volumes/kubernetes.io~empty-dir/fast"); got != "1M" {
		t.Errorf("the memory volume has size %s", got)
	}

	j.must(api.OpPodRemove)
	if got := f.sh(t, `cat "$1/c"; cat /etc/hostname`, dir); got != "written"+f.node.Name {
		t.Errorf("removing the pod hurt what is not the pod's: %q", got)
	}
	vol.Step.Op = api.OpVolumeRemove
	if _, err := volume.New().Apply(t.Context(), f, vol); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, f.inventory(t)); diff != "" {
		t.Errorf("the host is not as it was (-before +after):\n%s", diff)
	}
}

// TestConfigChangesInPlace applies a pod again with other content: the running container sees it, at once and as a whole.
func TestConfigChangesInPlace(t *testing.T) {
	f := host(t)
	pod := f.pod(t)
	pod.Spec.Volumes = []corev1.Volume{{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: local("settings")}}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "config", MountPath: "/config"}}
	first, second := configMap("settings", map[string]string{"kept": "1", "gone": "1"}), configMap("settings", map[string]string{"kept": "2", "new": "2"})
	j := f.take(t, pod, first)
	j.must(api.OpPodEnsure, api.OpPodReady)
	dir := api.PodsDir + "/" + string(pod.UID) + "/volumes/kubernetes.io~configmap/config"
	version := f.sh(t, `readlink "$1/..data"; stat -c %i "$1/..data/kept"`, dir)
	j.must(api.OpPodEnsure)
	if again := f.sh(t, `readlink "$1/..data"; stat -c %i "$1/..data/kept"`, dir); again != version {
		t.Errorf("the same content was written anew: %q, %q", version, again)
	}
	j.work.Objects[second.Address] = second
	j.must(api.OpPodEnsure)
	if got := j.run("app", "cat", "/config/kept", "/config/new"); got != "22" {
		t.Errorf("the container sees %q", got)
	}
	if got := f.sh(t, `ls -A "$1" | sort | tr '\n' ' '`, dir); strings.Contains(got, "gone") || strings.Count(got, "..") != 2 {
		t.Errorf("the volume's folder holds %q", got)
	}
}

// TestPodFiles rewrites the files of a running pod by their own step: its containers run on, secrets stay in memory, and
// what is not there is not made.
func TestPodFiles(t *testing.T) {
	f := host(t)
	pod := f.pod(t)
	source := func(s corev1.VolumeProjection) corev1.VolumeSource {
		return corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{s}}}
	}
	pod.Spec.Volumes = []corev1.Volume{
		{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: local("settings")}}},
		{Name: "secret", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "keys", DefaultMode: new(int32(0o400))}}},
		{Name: "both", VolumeSource: source(corev1.VolumeProjection{Secret: &corev1.SecretProjection{LocalObjectReference: local("keys")}})},
		{Name: "labels", VolumeSource: source(corev1.VolumeProjection{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
			{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}}}}})},
	}
	for _, v := range pod.Spec.Volumes {
		pod.Spec.Containers[0].VolumeMounts = append(pod.Spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: v.Name, MountPath: "/" + v.Name})
	}
	pod.Spec.Containers[0].VolumeMounts = append(pod.Spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: "config", MountPath: "/part", SubPath: "page"})
	give := func(j *job, page, token string) {
		for _, o := range []*api.Object{configMap("settings", map[string]string{"page": page}), secret("keys", map[string]string{"token": token})} {
			j.work.Objects[o.Address] = o
		}
	}
	j := f.take(t, pod)
	give(j, "one", "s3cret")
	j.must(api.OpPodEnsure, api.OpPodReady)
	dir := api.PodsDir + "/" + string(pod.UID) + "/volumes"
	links := `cd "$1" && for v in */*; do echo "$v $(readlink "$v/..data") $(stat -c %Y.%i "$v/..data")"; done`
	before, first := f.containerIDs(t, pod), f.sh(t, links, dir)

	j.must(api.OpPodFiles)
	if again := f.sh(t, links, dir); again != first {
		t.Errorf("the same content was written again:\n%s\n%s", first, again)
	}
	give(j, "two", "changed")
	j.must(api.OpPodFiles)
	if got, want := j.run("app", "cat", "/config/page", "/secret/token", "/both/token", "/labels/labels", "/part"), `twochangedchangedapp="web"one`; got != want {
		t.Errorf("the container sees %q, want %q", got, want)
	}
	if got := f.containerIDs(t, pod); got != before {
		t.Errorf("containers were %s and are %s", before, got)
	}
	if got := f.sh(t, `cd "$1" && for v in kubernetes.io~secret/secret kubernetes.io~projected/both; do stat -f -c %T $v/..data/token; ls -A $v | wc -l; done; ! grep -rl changed --exclude-dir=secret --exclude-dir=both .`, dir); got != "tmpfs\n3\ntmpfs\n3" {
		t.Errorf("the secrets' folders: %q", got)
	}

	f.sh(t, `umount "$1/kubernetes.io~secret/secret" && ln -s nowhere "$1/kubernetes.io~secret/secret/..data"`, dir)
	give(j, "three", "leaked")
	if _, detail := j.detail(api.OpPodFiles); !strings.Contains(detail, "volume secret is not in memory") {
		t.Errorf("got %q", detail)
	}
	if got := f.sh(t, `grep -rl leaked "$1" || true; cat "$1/kubernetes.io~configmap/config/page"`, dir); got != "two" {
		t.Errorf("something was written: %q", got)
	}
	j.must(api.OpPodRemove)
	if _, detail := j.detail(api.OpPodFiles); !strings.Contains(detail, "the files of volume both are not there") {
		t.Errorf("got %q", detail)
	}
	if got := f.sh(t, `ls -d "$1" 2>/dev/null || true`, dir); got != "" {
		t.Errorf("the removed pod has files again: %s", got)
	}
}

func TestFilesThatCannotBeMade(t *testing.T) {
	f := host(t)
	tests := []struct {
		name   string
		volume corev1.VolumeSource
		sub    string
		before string // on the host
		want   string
	}{
		{"no such directory", corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/nowhere", Type: new(corev1.HostPathDirectory)}}, "", "",
			"hostPath type check failed: /nowhere is not a directory"},
		{"not a socket", corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/etc/passwd", Type: new(corev1.HostPathSocket)}}, "", "",
			"hostPath type check failed: /etc/passwd is not a socket file"},
		{"no such config map", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: local("nobody")}}, "", "",
			`MountVolume.SetUp failed for volume "v" : configmap "nobody" not found in namespace default`},
		{"no such volume", corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "nobody"}}, "", "",
			`persistentvolumeclaim "nobody" not found`},
		{"sub-path through a link", corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/srv/trap"}}, "out/etc", "mkdir -p /srv/trap && ln -sfn / /srv/trap/out",
			"subPath out/etc leads out of the volume"},
		{"sub-path that is a link", corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/srv/trap"}}, "file", "mkdir -p /srv/trap && ln -sfn /etc/shadow /srv/trap/file",
			"subPath file leads out of the volume"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.before != "" {
				f.sh(t, tt.before)
				defer f.sh(t, "rm -rf /srv/trap")
			}
			pod := f.pod(t)
			pod.Name = "broken"
			pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: tt.volume}}
			pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v", SubPath: tt.sub}}
			_, detail := f.take(t, pod).detail(api.OpPodEnsure)
			if !strings.Contains(detail, tt.want) {
				t.Errorf("got %q, want %q in it", detail, tt.want)
			}
		})
	}
}

// TestFSGroup gives a volume with files of others to the pod's group: always, or only when its root says that it is not done.
func TestFSGroup(t *testing.T) {
	f := host(t)
	const dir = "/srv/owned"
	f.sh(t, `mkdir -p "$1/sub" && echo x >"$1/sub/file" && chmod 0700 "$1" "$1/sub" && chmod 0600 "$1/sub/file" && ln -s sub/file "$1/link"`, dir)
	defer f.sh(t, `rm -rf "$1"`, dir)
	pod := f.pod(t)
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: new(int64(1000)), FSGroup: new(int64(3000))}
	pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "db"}}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
	j := f.take(t, pod)
	j.work.Step.Pod.Claims = map[string]string{"db": dir}
	owners := func() string { return f.sh(t, `cd "$1" && stat -c '%g %a' . sub sub/file && stat -c '%g' link`, dir) }
	const given, taken = "3000 2770\n3000 2770\n3000 660\n3000", "3000 2770\n0 700\n0 600\n3000"

	j.must(api.OpPodEnsure, api.OpPodReady)
	if got := owners(); got != given {
		t.Errorf("at first: %q, want %q", got, given)
	}
	if got := j.run("app", "cat", "/data/sub/file"); got != "x" {
		t.Errorf("the container reads %q", got)
	}
	j.run("app", "put", "/data/sub/new", "y")
	if got := f.sh(t, `stat -c '%u %g' "$1/sub/new"`, dir); got != "1000 3000" {
		t.Errorf("a new file belongs to %s", got)
	}
	takeBack := `cd "$1" && chgrp 0 sub sub/file && chmod 0700 sub && chmod g-s sub && chmod 0600 sub/file`
	steps := []struct {
		policy corev1.PodFSGroupChangePolicy
		before string
		want   string
	}{
		{corev1.FSGroupChangeOnRootMismatch, takeBack, taken},
		{corev1.FSGroupChangeAlways, takeBack, given},
		{corev1.FSGroupChangeOnRootMismatch, takeBack + ` && chmod g-s .`, given},
		{corev1.FSGroupChangeOnRootMismatch, takeBack + ` && chgrp 0 .`, given},
	}
	for i, s := range steps {
		f.sh(t, s.before, dir)
		pod.Spec.SecurityContext.FSGroupChangePolicy = &s.policy
		j.must(api.OpPodEnsure)
		if got := owners(); got != s.want {
			t.Errorf("%d, %s: %q, want %q", i, s.policy, got, s.want)
		}
	}
}

// TestSubPathAfterChange: a file mounted by its sub-path stays what it was while the container runs, and is the new one when the
// container starts again.
func TestSubPathAfterChange(t *testing.T) {
	f := host(t)
	pod := f.pod(t)
	pod.Spec.Volumes = []corev1.Volume{{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: local("settings")}}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "config", MountPath: "/one", SubPath: "page"}, {Name: "config", MountPath: "/all"}}
	j := f.take(t, pod)
	give := func(text string) {
		o := configMap("settings", map[string]string{"page": text})
		j.work.Objects[o.Address] = o
	}
	give("one")
	j.must(api.OpPodEnsure, api.OpPodReady)
	give("two")
	j.must(api.OpPodFiles)
	if got := j.run("app", "cat", "/one", "/all/page"); got != "onetwo" {
		t.Errorf("while it runs the container reads %q", got)
	}
	f.stopContainer(t, pod)
	j.must(api.OpPodEnsure, api.OpPodReady)
	if got := j.run("app", "cat", "/one", "/all/page"); got != "twotwo" {
		t.Errorf("after its start the container reads %q", got)
	}
	target := api.PodsDir + "/" + string(pod.UID) + "/volume-subpaths/config/app/0"
	if got := f.sh(t, `grep -c " $1 " /proc/self/mountinfo`, target); got != "1" {
		t.Errorf("%s mounts lie over each other", got)
	}
}

// TestHungStorage: a file system that does not answer fails the step at the pod's deadline, and the next one goes on.
func TestHungStorage(t *testing.T) {
	f := host(t)
	f.sh(t, `mkdir -p /srv/frozen && truncate -s 8M /srv/frozen.img && mkfs.ext4 -q /srv/frozen.img && mount -o loop /srv/frozen.img /srv/frozen && fsfreeze -f /srv/frozen`)
	pod := f.pod(t)
	pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/srv/frozen/new", Type: new(corev1.HostPathDirectoryOrCreate)}}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
	atEnd := func(script string) {
		t.Cleanup(func() {
			if _, err := f.Run(context.WithoutCancel(t.Context()), providers.Command{Script: script}); err != nil {
				t.Errorf("clean up: %v", err)
			}
		})
	}
	atEnd(`umount /srv/frozen && rm -rf /srv/frozen /srv/frozen.img`)
	j := f.take(t, pod)
	atEnd(`fsfreeze -u /srv/frozen 2>/dev/null || :`) // before the pod is removed

	j.work.Step.Pod.DeadlineSeconds = 2
	start := time.Now()
	summary, detail := j.detail(api.OpPodEnsure)
	if took := time.Since(start); took > 2*time.Minute {
		t.Errorf("took %s", took)
	}
	want := "unable to mount volumes [data]: timed out waiting for the condition after 2s (FailedMount)"
	if summary != "Files of the pod cannot be prepared" || !strings.Contains(detail, want) {
		t.Errorf("%s: %s\nwant %s", summary, detail, want)
	}
	f.sh(t, `fsfreeze -u /srv/frozen`)
	j.work.Step.Pod.DeadlineSeconds = 30
	j.must(api.OpPodEnsure, api.OpPodReady)
}

// TestVolumeOverLimit: a directory on the disk that holds more than it may is seen, and its pod does not become ready.
func TestVolumeOverLimit(t *testing.T) {
	f := host(t)
	pod := f.pod(t)
	pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: new(resource.MustParse("1Mi"))}}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
	j := f.take(t, pod)
	j.must(api.OpPodEnsure, api.OpPodReady)
	if why := j.seen().Evict; why != "" {
		t.Errorf("an empty directory: %s", why)
	}
	dir := api.PodsDir + "/" + string(pod.UID) + "/volumes/kubernetes.io~empty-dir/v"
	f.sh(t, `head -c 2000000 /dev/urandom >"$1/much"`, dir)
	const want = `Usage of EmptyDir volume "v" exceeds the limit "1Mi".`
	if why := j.seen().Evict; why != want {
		t.Errorf("seen: %q, want %q", why, want)
	}
	if summary, detail := j.detail(api.OpPodReady); summary != "Pod is over its limit of disk" || !strings.Contains(detail, want) {
		t.Errorf("%s: %s", summary, detail)
	}
	f.sh(t, `rm "$1/much"`, dir)
	j.must(api.OpPodReady)
}

// TestDiskOverLimit: what a container writes into its own layer and into its log counts against its limit of ephemeral-storage as soon as it is
// written, and what lies in the pod's empty directories against that of all containers.
func TestDiskOverLimit(t *testing.T) {
	f := host(t)
	pod := f.pod(t, "sleep")
	limit := func(text string) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse(text)}}
	}
	other := *pod.Spec.Containers[0].DeepCopy()
	other.Name = "other"
	pod.Spec.Containers = append(pod.Spec.Containers, other)
	pod.Spec.Containers[0].Resources, pod.Spec.Containers[1].Resources = limit("2Mi"), limit("2Mi")
	pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	j := f.take(t, pod)
	j.must(api.OpPodEnsure, api.OpPodReady)
	if why := j.seen().Evict; why != "" {
		t.Errorf("nothing is written: %s", why)
	}
	volume := api.PodsDir + "/" + string(pod.UID) + "/volumes/kubernetes.io~empty-dir/v/much"
	log := "/var/log/pods/default_" + pod.Name + "_" + string(pod.UID) + "/other/9.log"
	root := "/run/containerd/io.containerd.runtime.v2.task/k8s.io/" + j.seen().Containers[0].ID + "/rootfs/much"
	for _, tt := range []struct{ name, file, size, want string }{
		{"log", log, "3000000", `Container other exceeded its local ephemeral storage limit "2Mi".`},
		{"writable layer", root, "3000000", `Container app exceeded its local ephemeral storage limit "2Mi".`},
		{"empty directory", volume, "5000000", "Pod ephemeral local storage usage exceeds the total limit of containers 4Mi."},
	} {
		f.sh(t, `head -c "$2" /dev/urandom >"$1"`, tt.file, tt.size)
		if why := j.seen().Evict; why != tt.want {
			t.Errorf("%s: seen %q, want %q", tt.name, why, tt.want)
		}
		if summary, detail := j.detail(api.OpPodReady); summary != "Pod is over its limit of disk" || !strings.Contains(detail, tt.want+" (Evicted)") {
			t.Errorf("%s: %s: %s", tt.name, summary, detail)
		}
		f.sh(t, `rm "$1"`, tt.file)
	}
	j.must(api.OpPodReady)
}

// hanging is a host on which scripts with a word in them never end.
type hanging struct {
	providers.Host
	word string
}

func (h hanging) Run(ctx context.Context, c providers.Command) (providers.Output, error) {
	if strings.Contains(c.Script, h.word) {
		<-ctx.Done()
		return providers.Output{}, ctx.Err()
	}
	return h.Host.Run(ctx, c)
}

// TestHungRemoval: a pod whose files cannot be removed fails its step, as long after the grace period as any step of it may take.
func TestHungRemoval(t *testing.T) {
	f := host(t)
	pod := f.pod(t)
	pod.Spec.TerminationGracePeriodSeconds = new(int64(1))
	j := f.take(t, pod)
	j.must(api.OpPodEnsure, api.OpPodReady)
	w := j.work
	step := *w.Step
	work := *step.Pod
	work.DeadlineSeconds = 2
	step.Op, step.Pod, w.Step = api.OpPodRemove, &work, &step
	var last api.ObjectEvent
	w.Event = func(e api.ObjectEvent) { last = e }
	start := time.Now()
	_, err := f.p.Apply(t.Context(), hanging{f.Host, "--one-file-system"}, &w)
	if last.Reason != "ExceededGracePeriod" {
		t.Errorf("the last event is %+v", last)
	}
	said, ok := errors.AsType[*api.DiagnosticsError](err)
	if !ok || said.Diagnostics[0].Summary != "Pod cannot be removed" || !strings.Contains(said.Diagnostics[0].Detail, "some of it was still there 2s after its grace period") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > 2*time.Minute {
		t.Errorf("took %s", took)
	}
}
