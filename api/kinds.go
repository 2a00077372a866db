package api

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
)

// KindNode is the kind of inventory nodes in addresses. Nodes are not objects: they have no row below.
const KindNode = "node"

// Names of the kinds of objects, as they stand in addresses.
const (
	KindCronJob     = "cronjob"
	KindJob         = "job"
	KindDaemonSet   = "daemonset"
	KindDeployment  = "deployment"
	KindPod         = "pod"
	KindReplicaSet  = "replicaset"
	KindStatefulSet = "statefulset"
	KindService     = "service"
	KindVolume      = "volume"
	KindConfigMap   = "config_map"
	KindSecret      = "secret"
	KindNamespace   = "namespace"
	KindImage       = "image"

	KindEndpointSlice = "endpoint_slice"

	KindAutoscaler       = "autoscaler"
	KindDisruptionBudget = "disruption_budget"
	KindLimitRange       = "limit_range"
	KindPriorityClass    = "priority_class"
	KindResourceQuota    = "resource_quota"
)

// Kind is one row of the table of kinds: what the rooms need to know of a kind without knowing it.
type Kind struct {
	Name       string   // in addresses: "deployment"
	Block      string   // the block type in HCL: "workload" for those with two labels, else the name
	Plural     string   // for `get`: "deployments"
	Also       []string // other first labels of a workload block that mean this kind
	Short      []string // short names for `get`: "deploy"
	APIVersion string   // as Kubernetes prints it: "apps/v1"; "berth.dev/v1" for our own
	APIKind    string   // "Deployment"
	Namespaced bool
	OwnsPods   bool // the planner's rollout has a file for it
	Workload   bool // declared as workload "<kind>" "<name>"
	New        func() Value
}

// Kinds is the table, sorted by name. A new kind of object is one row here, its field rows in fields.go, a
// provider if no present one can do it, and a file in planner/rollout if it owns pods.
var Kinds = []Kind{
	{Name: KindAutoscaler, Block: "autoscaler", Plural: "horizontalpodautoscalers", Short: []string{"hpa", "autoscalers", "horizontalpodautoscaler"}, APIVersion: "autoscaling/v2", APIKind: "HorizontalPodAutoscaler", Namespaced: true, New: func() Value { return &Autoscaler{} }},
	{Name: KindConfigMap, Block: "config_map", Plural: "configmaps", Short: []string{"cm", "configmap"}, APIVersion: "v1", APIKind: "ConfigMap", Namespaced: true, New: func() Value { return &corev1.ConfigMap{} }},
	{Name: KindCronJob, Block: "workload", Plural: "cronjobs", Short: []string{"cj"}, APIVersion: "batch/v1", APIKind: "CronJob", Namespaced: true, OwnsPods: true, Workload: true, New: func() Value { return &batchv1.CronJob{} }},
	{Name: KindDaemonSet, Block: "workload", Plural: "daemonsets", Short: []string{"ds"}, APIVersion: "apps/v1", APIKind: "DaemonSet", Namespaced: true, OwnsPods: true, Workload: true, New: func() Value { return &appsv1.DaemonSet{} }},
	{Name: KindDeployment, Block: "workload", Plural: "deployments", Short: []string{"deploy"}, APIVersion: "apps/v1", APIKind: "Deployment", Namespaced: true, OwnsPods: true, Workload: true, New: func() Value { return &Deployment{} }},
	{Name: KindDisruptionBudget, Block: "disruption_budget", Plural: "poddisruptionbudgets", Short: []string{"pdb", "disruption_budgets", "poddisruptionbudget"}, APIVersion: "policy/v1", APIKind: "PodDisruptionBudget", Namespaced: true, New: func() Value { return &policyv1.PodDisruptionBudget{} }},
	{Name: KindEndpointSlice, Block: "endpoint_slice", Plural: "endpointslices", Short: []string{"endpointslice", "endpoint_slices"}, APIVersion: "discovery.k8s.io/v1", APIKind: "EndpointSlice", Namespaced: true, New: func() Value { return &discoveryv1.EndpointSlice{} }},
	{Name: KindImage, Block: "image", Plural: "images", APIVersion: "berth.dev/v1", APIKind: "Image", New: func() Value { return &Image{} }},
	{Name: KindJob, Block: "workload", Plural: "jobs", APIVersion: "batch/v1", APIKind: "Job", Namespaced: true, OwnsPods: true, Workload: true, New: func() Value { return &batchv1.Job{} }},
	{Name: KindLimitRange, Block: "limit_range", Plural: "limitranges", Short: []string{"limits", "limitrange", "limit_ranges"}, APIVersion: "v1", APIKind: "LimitRange", Namespaced: true, New: func() Value { return &corev1.LimitRange{} }},
	{Name: KindNamespace, Block: "namespace", Plural: "namespaces", Short: []string{"ns"}, APIVersion: "v1", APIKind: "Namespace", New: func() Value { return &corev1.Namespace{} }},
	{Name: KindPod, Block: "workload", Plural: "pods", Short: []string{"po"}, APIVersion: "v1", APIKind: "Pod", Namespaced: true, OwnsPods: true, Workload: true, New: func() Value { return &corev1.Pod{} }},
	{Name: KindReplicaSet, Block: "workload", Also: []string{"replicationcontroller"}, Plural: "replicasets", Short: []string{"rs", "replicationcontrollers", "rc"}, APIVersion: "apps/v1", APIKind: "ReplicaSet", Namespaced: true, OwnsPods: true, Workload: true, New: func() Value { return &appsv1.ReplicaSet{} }},
	{Name: KindPriorityClass, Block: "priority_class", Plural: "priorityclasses", Short: []string{"pc", "priorityclass", "priority_classes"}, APIVersion: "scheduling.k8s.io/v1", APIKind: "PriorityClass", New: func() Value { return &schedulingv1.PriorityClass{} }},
	{Name: KindResourceQuota, Block: "resource_quota", Plural: "resourcequotas", Short: []string{"quota", "resourcequota", "resource_quotas"}, APIVersion: "v1", APIKind: "ResourceQuota", Namespaced: true, New: func() Value { return &corev1.ResourceQuota{} }},
	{Name: KindSecret, Block: "secret", Plural: "secrets", APIVersion: "v1", APIKind: "Secret", Namespaced: true, New: func() Value { return &corev1.Secret{} }},
	{Name: KindService, Block: "service", Plural: "services", Short: []string{"svc"}, APIVersion: "v1", APIKind: "Service", Namespaced: true, New: func() Value { return &corev1.Service{} }},
	{Name: KindStatefulSet, Block: "workload", Plural: "statefulsets", Short: []string{"sts"}, APIVersion: "apps/v1", APIKind: "StatefulSet", Namespaced: true, OwnsPods: true, Workload: true, New: func() Value { return &appsv1.StatefulSet{} }},
	{Name: KindVolume, Block: "volume", Plural: "volumes", Short: []string{"vol"}, APIVersion: "berth.dev/v1", APIKind: "Volume", Namespaced: true, New: func() Value { return &Volume{} }},
}

// WorkloadKind returns the kind that the first label of a workload block means.
func WorkloadKind(label string) (Kind, bool) {
	for _, k := range Kinds {
		if k.Workload && (k.Name == label || slices.Contains(k.Also, label)) {
			return k, true
		}
	}
	return Kind{}, false
}

// KindByName returns the row of a kind by its name in addresses.
func KindByName(name string) (Kind, bool) {
	for _, k := range Kinds {
		if k.Name == name {
			return k, true
		}
	}
	return Kind{}, false
}
