package api

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// JobState is what the state knows of one run of a job: that of a job, or one of a cronjob. It is what keeps a job from being
// run twice.
type JobState struct {
	Address Address `json:"address"` // of the job or the cronjob
	Name    string  `json:"name"`    // the job's, or that of a cronjob's run
	// Namespace is the object's; the state may not have the object, whose first run has failed.
	Namespace string `json:"namespace,omitempty"`
	UID       string `json:"uid"`
	Hash      string `json:"hash"` // of the pod template
	// Spec is what runs, complete. A run that was interrupted goes on with it whatever the configuration says by then.
	Spec *batchv1.JobSpec `json:"spec,omitempty"`
	// Sensitive are the paths in the specification of its pods that must not be shown, as they were when the run was made: what its object says by
	// then may be another template's. Empty for a run that has none; nil for one of a version that did not note them.
	Sensitive []string `json:"sensitive,omitzero"`
	// Scheduled is the time for which a cronjob's run is; nil when somebody started it.
	Scheduled *time.Time `json:"scheduled,omitempty"`

	Status batchv1.JobStatus `json:"status"`
	// Pods is how many pods were made: it numbers the next one, so that no two have one name.
	Pods int `json:"pods,omitempty"`
	// Failures is how many pods have failed since the last one succeeded, and LastFailure when the last of them did: what the delay
	// before the next pod follows from.
	Failures    int32      `json:"failures,omitempty"`
	LastFailure *time.Time `json:"last_failure,omitempty"`
	// Indexes holds the same for each index of its own, where backoffLimitPerIndex is set.
	Indexes map[int]IndexFailures `json:"indexes,omitempty"`
	// Expired says that its time to live is over: its pods are gone, and it does not run again.
	Expired bool `json:"expired,omitempty"`
}

// JobKey tells the runs of jobs apart.
type JobKey struct {
	Address Address `json:"address"`
	Name    string  `json:"name"`
}

// Key returns what tells the run from others.
func (j *JobState) Key() JobKey { return JobKey{j.Address, j.Name} }

// Compare orders keys by address and name.
func (k JobKey) Compare(l JobKey) int {
	return cmp.Or(k.Address.Compare(l.Address), strings.Compare(k.Name, l.Name))
}

// JobsOf returns the runs of a job or cronjob, by name.
func (s *State) JobsOf(a Address) []JobState {
	var out []JobState
	for _, j := range s.Jobs {
		if j.Address == a {
			out = append(out, j)
		}
	}
	return out
}

// IndexFailures is how often the pods of one index have failed and when last.
type IndexFailures struct {
	Count int32     `json:"count"`
	Last  time.Time `json:"last"`
}

// Condition returns the condition of a type that is true, or nil.
func (j *JobState) Condition(t batchv1.JobConditionType) *batchv1.JobCondition {
	for i := range j.Status.Conditions {
		if c := &j.Status.Conditions[i]; c.Type == t && c.Status == corev1.ConditionTrue {
			return c
		}
	}
	return nil
}

// Finished returns the condition with which the job has ended, Complete or Failed; nil while it has not.
func (j *JobState) Finished() *batchv1.JobCondition {
	if c := j.Condition(batchv1.JobComplete); c != nil {
		return c
	}
	return j.Condition(batchv1.JobFailed)
}

// Failed reports whether the job has ended without success.
func (j *JobState) Failed() bool { return j.Condition(batchv1.JobFailed) != nil }

// JobWork is one run of a job as a step: everything that its decisions follow from.
type JobWork struct {
	// Pod is the template of its pods, complete but for name, uid, node and index.
	Pod     *corev1.Pod       `json:"pod"`
	Hash    string            `json:"hash"`
	Objects []Address         `json:"objects,omitempty"` // as in PodWork
	Claims  map[string]string `json:"claims,omitempty"`
	// Sensitive are paths in the pods' specification: see [PodState.Sensitive].
	Sensitive []string `json:"sensitive,omitempty"`
	// Seed is what the names and uids of its pods follow from, with their numbers.
	Seed string `json:"seed"`
	// Slots are the nodes of the pods that run side by side. Each slot has one pod at a time.
	Slots []string `json:"slots,omitempty"`
	// State is the run as the plan found it.
	State JobState `json:"state"`
	// NoWait has the step end as soon as what has ended before is counted, and the pods that follow from that were made.
	NoWait bool `json:"no_wait,omitempty"`
	// Present are its pods that exist and have not been counted yet.
	Present []JobPod `json:"present,omitempty"`
}

// JobPod is one pod of a job as the job sees it.
type JobPod struct {
	Name  string          `json:"name"`
	UID   string          `json:"uid"`
	Node  string          `json:"node"`
	Slot  int             `json:"slot"`  // -1 for a pod that runs where no slot is
	Index int             `json:"index"` // -1 unless the job is indexed
	Phase corev1.PodPhase `json:"phase"` // Running as long as it has not ended
	// Restarts of its containers, together.
	Restarts int32 `json:"restarts,omitempty"`
	// Ended is set when the plan has seen that its containers have ended, and nobody has counted it.
	Ended bool `json:"ended,omitempty"`
	// Deleting is set while it is being taken away.
	Deleting bool `json:"deleting,omitempty"`
	// What follows is set when it has ended.
	Finished   time.Time      `json:"finished,omitzero"`
	Containers []ContainerEnd `json:"containers,omitempty"`
	Conditions []string       `json:"conditions,omitempty"` // types of those that are true: "DisruptionTarget"
}

// ContainerEnd is how a container ended.
type ContainerEnd struct {
	Name     string `json:"name"`
	ExitCode int32  `json:"exit_code"`
	Reason   string `json:"reason,omitempty"`
}

// JobDecision is what a job wants done now.
type JobDecision struct {
	State  JobState // with everything counted that has ended
	Create []JobPod // new pods with their slots
	Delete []string // names of pods that run and are not wanted
	// Again is when to decide again though nothing has happened; zero when only a pod can change anything.
	Again time.Time
	// Over is set when nothing is left to do: the job has ended and its pods have, or it is suspended.
	Over bool
	// Delayed says why no pod is made now, for people; "" when nothing is held back.
	Delayed string
}

// LabelJobName and the others are the labels of a job's pods, AnnJobIndex the annotation of an index. Kubernetes has the same.
const (
	LabelJobName       = "batch.kubernetes.io/job-name"
	LabelJobNameOld    = "job-name"
	LabelControllerUID = "batch.kubernetes.io/controller-uid"
	LabelControllerOld = "controller-uid"
	AnnJobIndex        = "batch.kubernetes.io/job-completion-index"
	AnnScheduledTime   = "batch.kubernetes.io/cronjob-scheduled-timestamp"
	EnvJobIndex        = "JOB_COMPLETION_INDEX"
)

// MaxIndex is more than any index can be.
const MaxIndex = 100_000

// Indexes is a set of completion indexes, written as Kubernetes does: "0-2,5".
type Indexes map[int]bool

// ParseIndexes reads a set; what is no index is left out.
func ParseIndexes(s string) Indexes {
	out := Indexes{}
	for _, part := range strings.Split(s, ",") {
		first, last, ranged := strings.Cut(part, "-")
		a, err := strconv.Atoi(first)
		if err != nil {
			continue
		}
		b := a
		if ranged {
			if b, err = strconv.Atoi(last); err != nil {
				continue
			}
		}
		for i := a; i <= min(b, MaxIndex); i++ {
			out[i] = true
		}
	}
	return out
}

// String writes the set.
func (x Indexes) String() string {
	var parts []string
	most := -1
	for i := range x {
		most = max(most, i)
	}
	for i := 0; i <= most; i++ {
		if !x[i] {
			continue
		}
		first := i
		for x[i+1] {
			i++
		}
		switch {
		case i == first:
			parts = append(parts, strconv.Itoa(i))
		case i == first+1:
			parts = append(parts, strconv.Itoa(first), strconv.Itoa(i))
		default:
			parts = append(parts, strconv.Itoa(first)+"-"+strconv.Itoa(i))
		}
	}
	return strings.Join(parts, ",")
}

// PodFor returns one pod of the job, whole: with its name, node and, of an indexed job, what tells it its index.
func (w *JobWork) PodFor(p JobPod) *corev1.Pod {
	o := w.Pod.DeepCopy()
	o.Name, o.UID, o.Spec.NodeName = p.Name, types.UID(p.UID), p.Node
	if p.Index < 0 {
		return o
	}
	index := strconv.Itoa(p.Index)
	if o.Annotations == nil {
		o.Annotations = map[string]string{}
	}
	if o.Labels == nil {
		o.Labels = map[string]string{}
	}
	o.Labels[AnnJobIndex], o.Annotations[AnnJobIndex] = index, index
	o.Spec.Hostname = strings.TrimRight((w.State.Name + "-" + index)[:min(63, len(w.State.Name)+1+len(index))], "-.")
	for _, list := range [][]corev1.Container{o.Spec.InitContainers, o.Spec.Containers} {
		for i := range list {
			if !slices.ContainsFunc(list[i].Env, func(e corev1.EnvVar) bool { return e.Name == EnvJobIndex }) {
				list[i].Env = append(list[i].Env, corev1.EnvVar{Name: EnvJobIndex, Value: index})
			}
		}
	}
	return o
}
