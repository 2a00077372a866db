package admission

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"
)

// amounts reads "cpu=1,memory=64Mi".
func amounts(text string) corev1.ResourceList {
	if text == "" {
		return nil
	}
	out := corev1.ResourceList{}
	for _, part := range strings.Split(text, ",") {
		name, q, _ := strings.Cut(part, "=")
		out[corev1.ResourceName(name)] = resource.MustParse(q)
	}
	return out
}

func spec(containers ...string) *corev1.PodSpec { // "name requests limits"
	s := &corev1.PodSpec{}
	for _, text := range containers {
		parts := strings.SplitN(text, " ", 3)
		s.Containers = append(s.Containers, corev1.Container{Name: parts[0], Resources: corev1.ResourceRequirements{Requests: amounts(parts[1]), Limits: amounts(parts[2])}})
	}
	return s
}

func limits(items ...corev1.LimitRangeItem) []*corev1.LimitRange {
	r := &corev1.LimitRange{Spec: corev1.LimitRangeSpec{Limits: items}}
	r.Name = "usual"
	return []*corev1.LimitRange{r}
}

func TestFillIn(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		item corev1.LimitRangeItem
		pod  string
		want string
	}{
		{"nothing to say", corev1.LimitRangeItem{}, "a  ", ""},
		{"limit and request", corev1.LimitRangeItem{Default: amounts("cpu=1"), DefaultRequest: amounts("cpu=100m")}, "a  ", "limits.cpu=1 requests.cpu=100m"},
		{"the request follows the default limit", corev1.LimitRangeItem{Default: amounts("cpu=1")}, "a  ", "limits.cpu=1 requests.cpu=1"},
		{"the limit follows the maximum", corev1.LimitRangeItem{Max: amounts("memory=1Gi")}, "a  ", "limits.memory=1Gi requests.memory=1Gi"},
		{"the request follows the minimum", corev1.LimitRangeItem{Min: amounts("memory=64Mi")}, "a  ", "requests.memory=64Mi"},
		{"what is set stays", corev1.LimitRangeItem{Default: amounts("cpu=1,memory=1Gi")}, "a cpu=1 cpu=2", "limits.memory=1Gi requests.memory=1Gi"},
	}
	for _, tt := range tests {
		tt.item.Type = corev1.LimitTypeContainer
		var got []string
		for _, f := range FillIn(spec(tt.pod), limits(tt.item)) {
			got = append(got, f.Field+"="+f.Value)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, got, tt.want)
		}
	}
}

func TestCheckLimits(t *testing.T) {
	t.Parallel()
	item := func(t corev1.LimitType, least, most, ratio string) corev1.LimitRangeItem {
		return corev1.LimitRangeItem{Type: t, Min: amounts(least), Max: amounts(most), MaxLimitRequestRatio: amounts(ratio)}
	}
	const container, pod = corev1.LimitTypeContainer, corev1.LimitTypePod
	tests := []struct {
		item corev1.LimitRangeItem
		pod  *corev1.PodSpec
		want string
	}{
		{item(container, "memory=64Mi", "memory=1Gi", "memory=2"), spec("a memory=64Mi memory=128Mi"), "[]"},
		{item(container, "memory=64Mi", "", ""), spec("a memory=32Mi memory=1Gi"), "minimum memory usage per Container is 64Mi, but request is 32Mi"},
		{item(container, "cpu=100m", "", ""), spec("a  "), "minimum cpu usage per Container is 100m.  No request is specified"},
		{item(container, "", "cpu=1", ""), spec("a cpu=1 cpu=2"), "maximum cpu usage per Container is 1, but limit is 2"},
		{item(container, "", "memory=1Gi", ""), spec("a memory=1Gi "), "maximum memory usage per Container is 1Gi.  No limit is specified"},
		{item(container, "", "", "memory=2"), spec("a memory=1Gi memory=4Gi"), "memory max limit to request ratio per Container is 2, but provided ratio is 4.000000"},
		{item(pod, "", "", "cpu=2"), spec("a  cpu=1"), "cpu max limit to request ratio per Pod is 2, but no request is specified or request is 0"},
		{item(pod, "", "cpu=3", ""), spec("a cpu=1 cpu=2", "b cpu=1 cpu=2"), "maximum cpu usage per Pod is 3, but limit is 4"},
		{item(container, "cpu=2", "memory=1Mi", ""), spec("a cpu=1 memory=2Mi"),
			"[minimum cpu usage per Container is 2, but request is 1, maximum memory usage per Container is 1Mi, but limit is 2Mi]"},
	}
	for _, tt := range tests {
		if got := Join(CheckLimits(tt.pod, limits(tt.item))); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
	storage := limits(item(corev1.LimitTypePersistentVolumeClaim, "storage=1Gi", "storage=10Gi", ""))
	for size, want := range map[string]string{
		"5Gi": "[]", "20Gi": "maximum storage usage per PersistentVolumeClaim is 10Gi, but request is 20Gi", "1Mi": "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi",
	} {
		if got := Join(CheckStorage(resource.MustParse(size), storage)); got != want {
			t.Errorf("%s: %s, want %s", size, got, want)
		}
	}
}

func quota(hard string, change func(*corev1.ResourceQuotaSpec)) []*corev1.ResourceQuota {
	q := &corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{Hard: amounts(hard)}}
	q.Name = "team"
	if change != nil {
		change(&q.Spec)
	}
	return []*corev1.ResourceQuota{q}
}

func TestQuota(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, hard string
		change     func(*corev1.ResourceQuotaSpec)
		held       []string
		pod        *corev1.PodSpec
		want       string
	}{
		{"enough", "cpu=4,pods=3", nil, []string{"a cpu=1 "}, spec("a cpu=2 "), ""},
		{"exceeded", "cpu=4,memory=2Gi", nil, []string{"a cpu=3,memory=2Gi "}, spec("a cpu=2,memory=1Gi "),
			`pods "web-1" is forbidden: exceeded quota: team, requested: cpu=2,memory=1Gi, used: cpu=3,memory=2Gi, limited: cpu=4,memory=2Gi`},
		{"only what is exceeded", "cpu=4,memory=9Gi,pods=1", nil, []string{"a cpu=3,memory=2Gi "}, spec("a cpu=1,memory=1Gi "),
			`pods "web-1" is forbidden: exceeded quota: team, requested: pods=1, used: pods=1, limited: pods=1`},
		{"nothing was used", "pods=0", nil, nil, spec("a  "), `pods "web-1" is forbidden: exceeded quota: team, requested: pods=1, used: pods=0, limited: pods=0`},
		{"must specify", "limits.cpu=4,requests.memory=1Gi", nil, nil, spec("app  ", "init memory=1Mi "),
			`pods "web-1" is forbidden: failed quota: team: must specify limits.cpu for: app,init; requests.memory for: app`},
		{"limits", "limits.memory=1Gi", nil, []string{"a memory=1Mi memory=1Gi"}, spec("a memory=1Mi memory=1Mi"),
			`pods "web-1" is forbidden: exceeded quota: team, requested: limits.memory=1Mi, used: limits.memory=1Gi, limited: limits.memory=1Gi`},
		{"an extended resource", "requests.nvidia.com/gpu=2", nil, []string{"a nvidia.com/gpu=2 nvidia.com/gpu=2"}, spec("a nvidia.com/gpu=1 nvidia.com/gpu=1"),
			`pods "web-1" is forbidden: exceeded quota: team, requested: requests.nvidia.com/gpu=1, used: requests.nvidia.com/gpu=2, limited: requests.nvidia.com/gpu=2`},
		{"held above the quota", "pods=1", nil, []string{"a  ", "b  "}, spec("a  "), `pods "web-1" is forbidden: exceeded quota: team, requested: pods=1, used: pods=2, limited: pods=1`},
		{"best effort does not count others", "pods=0", func(s *corev1.ResourceQuotaSpec) { s.Scopes = []corev1.ResourceQuotaScope{"BestEffort"} }, nil, spec("a cpu=1 "), ""},
		{"best effort", "pods=0", func(s *corev1.ResourceQuotaSpec) { s.Scopes = []corev1.ResourceQuotaScope{"BestEffort"} }, nil, spec("a  "),
			`pods "web-1" is forbidden: exceeded quota: team, requested: pods=1, used: pods=0, limited: pods=0`},
		{"terminating does not count others", "pods=0", func(s *corev1.ResourceQuotaSpec) { s.Scopes = []corev1.ResourceQuotaScope{"Terminating"} }, nil, spec("a  "), ""},
		{"another priority", "pods=0", func(s *corev1.ResourceQuotaSpec) {
			s.ScopeSelector = &corev1.ScopeSelector{MatchExpressions: []corev1.ScopedResourceSelectorRequirement{{ScopeName: "PriorityClass", Operator: "In", Values: []string{"high"}}}}
		}, nil, spec("a  "), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := NewLedger(quota(tt.hard, tt.change))
			for i, text := range tt.held {
				l.Hold(PodItem(fmt.Sprint("held-", i), &corev1.Pod{Spec: *spec(text)}))
			}
			if got, _ := l.Admit(PodItem("web-1", &corev1.Pod{Spec: *tt.pod})); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// TestLedgerGivesBack admits, gives back and copies: a copy changes nothing, and what was given back can be had again.
func TestLedgerGivesBack(t *testing.T) {
	t.Parallel()
	l := NewLedger(quota("cpu=4,pods=2", nil))
	item := func(cpu string) Item { return PodItem("web-1", &corev1.Pod{Spec: *spec("a cpu=" + cpu + " ")}) }
	l.Hold(item("3"))
	copied := l.Clone()
	copied.Release(item("3"))
	if why, _ := l.Admit(item("2")); !strings.Contains(why, "used: cpu=3, limited: cpu=4") {
		t.Errorf("after its copy has given back: %q", why)
	}
	if why, _ := copied.Admit(item("4")); why != "" {
		t.Error(why)
	}
	if why, _ := copied.Admit(item("1")); !strings.Contains(why, "used: cpu=4") {
		t.Errorf("of a full one: %q", why)
	}
	larger := Larger(item("1"), item("3"))
	if q := larger.Usage["cpu"]; q.String() != "3" {
		t.Errorf("the larger of 1 and 3 is %s", q.String())
	}
}

func TestQuotaOfObjects(t *testing.T) {
	t.Parallel()
	l := NewLedger(quota("services=1,services.nodeports=0,count/deployments.apps=1", nil))
	l.Hold(ObjectItem("deployments", "apps", "a", nil))
	for _, tt := range []struct {
		item Item
		want string
	}{
		{ObjectItem("deployments", "apps", "b", nil), `deployments.apps "b" is forbidden: exceeded quota: team, requested: count/deployments.apps=1, used: count/deployments.apps=1, limited: count/deployments.apps=1`},
		{ObjectItem("services", "", "s", amounts("services.nodeports=2")), `services "s" is forbidden: exceeded quota: team, requested: services.nodeports=2, used: services.nodeports=0, limited: services.nodeports=0`},
		{ObjectItem("services", "", "s", nil), ""},
		{ObjectItem("services", "", "t", nil), `services "t" is forbidden: exceeded quota: team, requested: services=1, used: services=1, limited: services=1`},
		{ObjectItem("secrets", "", "s", nil), ""},
	} {
		if got, _ := l.Admit(tt.item); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
	if diff := cmp.Diff("1", func() string { q := l.Used("team")["services"]; return q.String() }()); diff != "" {
		t.Error(diff)
	}
}

// TestQuotaIsKept admits any pods: what was admitted never exceeds what the quota allows.
func TestQuotaIsKept(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		hard := rapid.Int64Range(0, 10).Draw(rt, "hard")
		l := NewLedger(quota(fmt.Sprintf("cpu=%d,pods=6", hard), nil))
		var used, pods int64
		for range rapid.IntRange(0, 12).Draw(rt, "pods") {
			n := rapid.Int64Range(0, 4).Draw(rt, "cpu")
			refusal, _ := l.Admit(PodItem("p", &corev1.Pod{Spec: *spec(fmt.Sprintf("a cpu=%d ", n))}))
			fits := used+n <= hard && pods < 6
			if fits != (refusal == "") {
				rt.Fatalf("%d of %d used, %d more: %q", used, hard, n, refusal)
			}
			if fits {
				used, pods = used+n, pods+1
			}
		}
	})
}

func TestBudget(t *testing.T) {
	t.Parallel()
	number, percent := intstr.FromInt32, intstr.FromString
	pods := func(n, ready, replicas int) []BudgetPod {
		var out []BudgetPod
		for i := range n {
			out = append(out, BudgetPod{Labels: map[string]string{"app": "web"}, Phase: corev1.PodRunning, Ready: i < ready, Owner: "web", Replicas: replicas})
		}
		return append(out, BudgetPod{Labels: map[string]string{"app": "other"}, Phase: corev1.PodRunning, Ready: true, Owner: "other", Replicas: 9})
	}
	tests := []struct {
		name        string
		least, most *intstr.IntOrString
		pods        []BudgetPod
		want        Budget
	}{
		{"two of three", ptr(number(2)), nil, pods(3, 3, 3), Budget{Expected: 3, Desired: 2, Healthy: 3, DisruptionsAllowed: 1}},
		{"one is ill already", ptr(number(2)), nil, pods(3, 2, 3), Budget{Expected: 3, Desired: 2, Healthy: 2}},
		{"a share rounds up", ptr(percent("50%")), nil, pods(5, 5, 5), Budget{Expected: 5, Desired: 3, Healthy: 5, DisruptionsAllowed: 2}},
		{"one may be missing", nil, ptr(number(1)), pods(3, 3, 3), Budget{Expected: 3, Desired: 2, Healthy: 3, DisruptionsAllowed: 1}},
		{"one is missing", nil, ptr(number(1)), pods(2, 2, 3), Budget{Expected: 3, Desired: 2, Healthy: 2}},
		{"a share that may be missing rounds up", nil, ptr(percent("34%")), pods(3, 3, 3), Budget{Expected: 3, Desired: 1, Healthy: 3, DisruptionsAllowed: 2}},
		{"no pods", ptr(number(0)), nil, nil, Budget{}},
	}
	for _, tt := range tests {
		b := &policyv1.PodDisruptionBudget{Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: tt.least, MaxUnavailable: tt.most,
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}}
		got, err := BudgetOf(b, tt.pods)
		if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(Budget{})); diff != "" || err != nil {
			t.Errorf("%s: %v %s", tt.name, err, diff)
		}
	}
}

func ptr[T any](v T) *T { return &v }

func TestMayEvict(t *testing.T) {
	t.Parallel()
	none := Budget{Name: "web", Expected: 3, Desired: 2, Healthy: 2}
	ready := BudgetPod{Phase: corev1.PodRunning, Ready: true}
	tests := []struct {
		name    string
		pod     BudgetPod
		budgets []Budget
		want    string
	}{
		{"no budget", ready, nil, ""},
		{"allowed", ready, []Budget{{DisruptionsAllowed: 1}}, ""},
		{"not allowed", ready, []Budget{none}, "Cannot evict pod as it would violate the pod's disruption budget. The disruption budget web needs 2 healthy pods and has 2 currently"},
		{"pending", BudgetPod{Phase: corev1.PodPending}, []Budget{none}, ""},
		{"going", BudgetPod{Phase: corev1.PodRunning, Ready: true, Deleting: true}, []Budget{none}, ""},
		{"ill, and enough are well", BudgetPod{Phase: corev1.PodRunning}, []Budget{none}, ""},
		{"ill, and not enough are well", BudgetPod{Phase: corev1.PodRunning}, []Budget{{Name: "web", Desired: 2, Healthy: 1}}, "Cannot evict pod as it would violate the pod's disruption budget. The disruption budget web needs 2 healthy pods and has 1 currently"},
		{"ill, always allowed", BudgetPod{Phase: corev1.PodRunning}, []Budget{{Desired: 2, Healthy: 1, always: true}}, ""},
		{"two budgets", ready, []Budget{{DisruptionsAllowed: 1}, {DisruptionsAllowed: 1}}, "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."},
	}
	for _, tt := range tests {
		if got := MayEvict(tt.pod, tt.budgets); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
