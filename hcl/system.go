package hcl

import (
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"berth.dev/berth/api"
	"berth.dev/berth/hcl/schema"
)

// Berth's own workloads are objects as all others: they are planned, shown and kept in the state. Nobody has to write them.

// addSystem adds the objects of the DNS servers: an image of this program, one server per node, and the service at whose address pods
// ask. What a configuration has under these names stays the user's, and is refused.
func (e *evaluation) addSystem() {
	if e.dns == nil || e.config.Cluster.DNS == "" {
		return
	}
	var objects []*api.Object
	for _, platform := range e.dns.platforms {
		image := dnsImage(platform, e.dns.platforms)
		if err := e.buildImage(image); err != nil {
			r := schema.Range(e.dns.place)
			e.found = append(e.found, api.Diagnostic{
				Severity: api.SeverityError, Summary: "No program for the DNS servers", Range: &r,
				Detail: "Each node gets a DNS server, which is this program: " + strings.TrimSuffix(err.Error(), ".") + ". Without DNS: dns { enabled = false } in the cluster block.",
			})
			return
		}
		objects = append(objects, e.system(api.KindImage, image))
		objects = append(objects, e.system(api.KindDaemonSet, e.dnsServers(image, platform)))
	}
	if e.dns.zone != "" {
		objects = append(objects, e.system(api.KindConfigMap, &corev1.ConfigMap{
			ObjectMeta: dnsMeta(api.DNSName), Data: map[string]string{zoneFile: e.dns.zone},
		}))
	}
	objects = append(objects, e.system(api.KindService, e.dnsService()))
	for _, o := range objects {
		if i := slices.IndexFunc(e.config.Objects, func(other *api.Object) bool {
			return other.Address == o.Address || other.Address.Kind == o.Address.Kind && other.Name() == o.Name() && other.Namespace() == o.Namespace()
		}); i >= 0 {
			other := e.config.Objects[i]
			r := other.Range
			e.found = append(e.found, api.Diagnostic{
				Severity: api.SeverityError, Summary: "Name is taken", Address: other.Address.String(), Range: &r,
				Detail: "The " + o.Kind().Name + " " + o.Name() + " is that of the cluster's DNS servers. Choose another name, or switch these off: dns { enabled = false } in the cluster block.",
			})
			return
		}
	}
	linkSystem(objects)
	e.config.Objects = append(e.config.Objects, objects...)
}

// linkSystem makes servers depend on their image and their records.
func linkSystem(objects []*api.Object) {
	for _, o := range objects {
		if o.Address.Kind != api.KindDaemonSet {
			continue
		}
		for _, used := range objects {
			if used.Address.Kind == api.KindConfigMap || used.Address.Kind == api.KindImage && used.Name() == o.Name() {
				o.DependsOn = append(o.DependsOn, used.Address)
			}
		}
		slices.SortFunc(o.DependsOn, api.Address.Compare)
	}
}

func (e *evaluation) system(kind string, v api.Value) *api.Object {
	return &api.Object{Address: api.Address{Kind: kind, Name: v.GetName()}, Value: v, Range: schema.Range(e.dns.place)}
}

func dnsMeta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: api.SystemNamespace, Labels: dnsLabels()}
}

// dnsLabels are those that cluster DNS has upstream.
func dnsLabels() map[string]string { return map[string]string{"k8s-app": api.DNSServiceName} }

// dnsName is that of the servers of one platform: the first has the plain one.
func dnsName(platform string, all []string) string {
	if platform == all[0] {
		return api.DNSName
	}
	_, arch, _ := strings.Cut(platform, "/")
	return api.DNSName + "-" + arch
}

func dnsImage(platform string, all []string) *api.Image {
	i := &api.Image{Spec: api.ImageSpec{
		Base: "scratch", Platform: platform, Entrypoint: []string{"/berth", "dns", "serve"},
		Copy: []api.ImageCopy{{Name: "/berth", From: api.ProgramSource, Mode: "0755"}},
	}}
	i.Name = dnsName(platform, all)
	i.Annotations = map[string]string{api.AnnotationServer: strconv.Itoa(api.DNSServerNumber)}
	return i
}

// Where the servers find their files.
const (
	recordsMount  = "/records"
	servicesMount = "/services" // of IPv6: with a 6 behind it
	zoneMount     = "/zone"
	zoneFile      = "zone"
)

// dnsArgs are the flags of `berth dns serve`.
func (e *evaluation) dnsArgs() []string {
	c := e.config.Cluster
	args := []string{"--domain=" + c.Domain, "--records=" + recordsMount}
	for _, f := range e.ruleFolders() {
		args = append(args, "--services="+f.mount)
	}
	args = append(args, "--address="+c.DNS)
	for _, r := range slices.Concat(c.PodCIDRs(), c.ServiceCIDRs()) {
		args = append(args, "--range="+r)
	}
	for _, s := range e.dns.upstream {
		args = append(args, "--upstream="+s)
	}
	for _, s := range e.dns.stubs {
		args = append(args, "--stub="+s.domain+"="+strings.Join(s.servers, ","))
	}
	if e.dns.zone != "" {
		args = append(args, "--zone="+zoneMount+"/"+zoneFile)
	}
	return args
}

// ruleFolder is where the rules of a family's services lie on hosts, and in the server.
type ruleFolder struct{ name, path, mount string }

func (e *evaluation) ruleFolders() []ruleFolder {
	var out []ruleFolder
	for _, f := range e.config.Cluster.Families() {
		if f == corev1.IPv6Protocol {
			out = append(out, ruleFolder{"services6", api.Services6Dir, servicesMount + "6"})
		} else {
			out = append(out, ruleFolder{"services", api.ServicesDir, servicesMount})
		}
	}
	return out
}

// dnsServers is one server per node. A new one takes over before the old one goes. It needs no more than a port below 1024.
func (e *evaluation) dnsServers(image *api.Image, platform string) *appsv1.DaemonSet {
	_, arch, _ := strings.Cut(platform, "/")
	labels := dnsLabels()
	labels["app"] = image.Name
	directory := corev1.HostPathDirectoryOrCreate
	one, none, no, yes, grace := intstr.FromInt32(1), intstr.FromInt32(0), false, true, int64(5)
	folder := func(name, path string) corev1.Volume {
		return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path, Type: &directory}}}
	}
	volumes := []corev1.Volume{folder("records", api.DNSDir+"/records")}
	mounts := []corev1.VolumeMount{{Name: "records", MountPath: recordsMount, ReadOnly: true}}
	for _, f := range e.ruleFolders() {
		volumes = append(volumes, folder(f.name, f.path))
		mounts = append(mounts, corev1.VolumeMount{Name: f.name, MountPath: f.mount, ReadOnly: true})
	}
	if e.dns.zone != "" {
		volumes = append(volumes, corev1.Volume{Name: "zone", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: api.DNSName}}}})
		mounts = append(mounts, corev1.VolumeMount{Name: "zone", MountPath: zoneMount, ReadOnly: true})
	}
	probe := func(path string, port int32) *corev1.Probe {
		return &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(port)}},
			PeriodSeconds: 1, TimeoutSeconds: 5, FailureThreshold: 30,
		}
	}
	d := &appsv1.DaemonSet{ObjectMeta: dnsMeta(image.Name)}
	d.Spec = appsv1.DaemonSetSpec{
		Selector:       &metav1.LabelSelector{MatchLabels: labels},
		UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType, RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxSurge: &one, MaxUnavailable: &none}},
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec: corev1.PodSpec{
				DNSPolicy: corev1.DNSDefault, PriorityClassName: "system-node-critical", EnableServiceLinks: &no, TerminationGracePeriodSeconds: &grace,
				NodeSelector: map[string]string{corev1.LabelArchStable: arch},
				Tolerations:  []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
				Volumes:      volumes,
				Containers: []corev1.Container{{
					Name: "dns", Image: image.Ref, Args: e.dnsArgs(), VolumeMounts: mounts,
					Ports: []corev1.ContainerPort{
						{Name: "dns", ContainerPort: 53, Protocol: corev1.ProtocolUDP}, {Name: "dns-tcp", ContainerPort: 53, Protocol: corev1.ProtocolTCP},
						{Name: "metrics", ContainerPort: 9153, Protocol: corev1.ProtocolTCP},
					},
					ReadinessProbe: probe("/ready", 8181), LivenessProbe: probe("/health", 8080),
					Resources: corev1.ResourceRequirements{
						Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("70Mi")},
						Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")},
					},
					SecurityContext: &corev1.SecurityContext{
						AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
						Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_BIND_SERVICE"}, Drop: []corev1.Capability{"ALL"}},
					},
				}},
			},
		},
	}
	return d
}

// dnsService leads a pod to the server of its node, and to the others where there is none.
func (e *evaluation) dnsService() *corev1.Service {
	near := corev1.ServiceTrafficDistributionPreferSameNode
	c := &e.config.Cluster
	s := &corev1.Service{ObjectMeta: dnsMeta(api.DNSServiceName)}
	s.Spec = corev1.ServiceSpec{
		Type: corev1.ServiceTypeClusterIP, ClusterIP: e.config.Cluster.DNS, Selector: dnsLabels(), TrafficDistribution: &near,
		Ports: []corev1.ServicePort{
			{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP}, {Name: "dns-tcp", Port: 53, Protocol: corev1.ProtocolTCP}, {Name: "metrics", Port: 9153, Protocol: corev1.ProtocolTCP},
		},
	}
	if second, err := api.ClusterDNSAddress(c.SecondServiceCIDR); err == nil && c.SecondServiceCIDR != "" {
		dual := corev1.IPFamilyPolicyRequireDualStack // health checks are led to the servers in both families
		s.Spec.IPFamilyPolicy, s.Spec.ClusterIPs = &dual, []string{c.DNS, second.String()}
	}
	return s
}
