package api

import "reflect"

// Enum lists the values of a string field that are not free, in Kubernetes' spelling.
type Enum struct {
	Values  []string          // allowed
	Refused map[string]string // real values that we do not honour, and why
	Open    bool              // others are allowed too, Refused apart
}

// EnumOf returns the values of a field: by the field itself, or by its type. It returns false for free text.
func EnumOf(f JSONField) (Enum, bool) {
	if e, ok := enumRows[f.Key()]; ok {
		return e, true
	}
	t := f.Type
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.String || t.PkgPath() == "" {
		return Enum{}, false
	}
	e, ok := enumRows[t.Name()]
	return e, ok && !(e.Open && len(e.Refused) == 0)
}

// enumRows is the table, keyed by the name of the string type or by the field's key where the type says nothing. A test
// fails on a string type of an honoured field without a row; free text of a type of its own is an open row.
var enumRows = map[string]Enum{
	"Capability": {Open: true},
	"SecretType": {Open: true, Refused: map[string]string{
		"kubernetes.io/service-account-token": needsAccounts}},
	"DaemonSetUpdateStrategyType": {Values: []string{"RollingUpdate", "OnDelete"}},
	"DeploymentStrategyType":      {Values: []string{"Recreate", "RollingUpdate", "BlueGreen", "Canary"}},
	"ContainerRestartPolicy": {Values: []string{"Always"}, Refused: map[string]string{
		"OnFailure": "init containers run until they end well, or fail with the pod's restart_policy",
		"Never":     "init containers run until they end well, or fail with the pod's restart_policy"}},
	"DNSPolicy":                           {Values: []string{"ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"}},
	"HPAScalingPolicyType":                {Values: []string{"Pods", "Percent"}},
	"LimitType":                           {Values: []string{"Container", "Pod", "PersistentVolumeClaim"}},
	"MetricSourceType":                    {Values: []string{"Resource", "ContainerResource", "Pods", "Object", "External"}},
	"MetricTargetType":                    {Values: []string{"Utilization", "Value", "AverageValue"}},
	"PreemptionPolicy":                    {Values: []string{"PreemptLowerPriority", "Never"}},
	"ResourceName":                        {Open: true},
	"CompletionMode":                      {Values: []string{"NonIndexed", "Indexed"}},
	"ConcurrencyPolicy":                   {Values: []string{"Allow", "Forbid", "Replace"}},
	"ConditionStatus":                     {Values: []string{"True"}, Refused: map[string]string{"False": "rules are about conditions that are true", "Unknown": "rules are about conditions that are true"}},
	"PodConditionType":                    {Open: true},
	"PodFailurePolicyAction":              {Values: []string{"FailJob", "FailIndex", "Ignore", "Count"}},
	"PodFailurePolicyOnExitCodesOperator": {Values: []string{"In", "NotIn"}},
	"PodReplacementPolicy":                {Values: []string{"TerminatingOrFailed", "Failed"}},
	"ResourceQuotaScope": {Values: []string{"Terminating", "NotTerminating", "BestEffort", "NotBestEffort", "PriorityClass"}, Refused: map[string]string{
		"CrossNamespacePodAffinity": notYet, "VolumeAttributesClass": notYet}},
	"ScalingPolicySelect":            {Values: []string{"Max", "Min", "Disabled"}},
	"ScopeSelectorOperator":          {Values: []string{"In", "NotIn", "Exists", "DoesNotExist"}},
	"UnhealthyPodEvictionPolicyType": {Values: []string{"IfHealthyBudget", "AlwaysAllow"}},
	"HostPathType": {Values: []string{"", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket",
		"CharDevice", "BlockDevice"}},
	"LabelSelectorOperator": {Values: []string{"In", "NotIn", "Exists", "DoesNotExist"}},
	"PersistentVolumeAccessMode": {Values: []string{"ReadWriteOnce", "ReadWriteOncePod"}, Refused: map[string]string{
		"ReadOnlyMany":  "a claim is a directory of one node",
		"ReadWriteMany": "a claim is a directory of one node",
	}},
	"PersistentVolumeClaimRetentionPolicyType": {Values: []string{"Retain", "Delete"}},
	"PersistentVolumeMode": {Values: []string{"Filesystem"}, Refused: map[string]string{
		"Block": "a claim is a directory"}},
	"PodManagementPolicyType":      {Values: []string{"OrderedReady", "Parallel"}},
	"MountPropagationMode":         {Values: []string{"None", "HostToContainer", "Bidirectional"}},
	"RecursiveReadOnlyMode":        {Values: []string{"Disabled", "IfPossible", "Enabled"}},
	"PodFSGroupChangePolicy":       {Values: []string{"OnRootMismatch", "Always"}},
	"Protocol":                     {Values: []string{"TCP", "UDP", "SCTP"}},
	"ServiceAffinity":              {Values: []string{"None", "ClientIP"}},
	"ServiceExternalTrafficPolicy": {Values: []string{"Cluster", "Local"}},
	"ServiceInternalTrafficPolicy": {Values: []string{"Cluster", "Local"}},
	"IPFamily":                     {Values: []string{"IPv4", "IPv6"}},
	"IPFamilyPolicy":               {Values: []string{"SingleStack", "PreferDualStack", "RequireDualStack"}},
	"AddressType": {Values: []string{"IPv4", "IPv6"}, Refused: map[string]string{
		"FQDN": "use a service of type ExternalName"}},
	"PullPolicy":                    {Values: []string{"Always", "IfNotPresent", "Never"}},
	"RestartPolicy":                 {Values: []string{"Always", "OnFailure", "Never"}},
	"ProcMountType":                 {Values: []string{"Default", "Unmasked"}},
	"SeccompProfileType":            {Values: []string{"RuntimeDefault", "Localhost", "Unconfined"}},
	"AppArmorProfileType":           {Values: []string{"RuntimeDefault", "Localhost", "Unconfined"}},
	"SupplementalGroupsPolicy":      {Values: []string{"Merge", "Strict"}},
	"ServiceType":                   {Values: []string{"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"}},
	"StatefulSetUpdateStrategyType": {Values: []string{"RollingUpdate", "OnDelete"}},
	"StorageMedium": {Values: []string{"", "Memory"}, Refused: map[string]string{
		"HugePages": "huge pages are not supported"}},
	"TaintEffect":              {Values: []string{"NoSchedule", "PreferNoSchedule", "NoExecute"}},
	"TerminationMessagePolicy": {Values: []string{"File", "FallbackToLogsOnError"}},
	"TolerationOperator": {Values: []string{"Exists", "Equal"}, Refused: map[string]string{
		"Lt": "tolerations compare for equality", "Gt": "tolerations compare for equality"}},
	"URIScheme":                    {Values: []string{"HTTP", "HTTPS"}},
	"api.VolumeSpec.reclaimPolicy": {Values: []string{"Retain", "Delete"}},
}
