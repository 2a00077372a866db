package rollout

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/api"
)

// The delay before a job's next pod after failures: the first, doubled by each further one, up to the last (semantics.md 3.6).
const (
	firstDelay = 10 * time.Second
	lastDelay  = 10 * time.Minute
)

// JobDefaults fills in what the user left out of a job.
func JobDefaults(s *batchv1.JobSpec) {
	if s.Completions == nil && s.Parallelism == nil {
		setPointer(&s.Completions, 1)
	}
	setPointer(&s.Parallelism, 1)
	setPointer(&s.CompletionMode, batchv1.NonIndexedCompletion)
	setPointer(&s.Suspend, false)
	limit := int32(6)
	if s.BackoffLimitPerIndex != nil {
		limit = 2147483647
	}
	setPointer(&s.BackoffLimit, limit)
	replacement := batchv1.TerminatingOrFailed
	if s.PodFailurePolicy != nil {
		replacement = batchv1.Failed
	}
	setPointer(&s.PodReplacementPolicy, replacement)
}

// JobIndexed reports whether a job's pods have indexes.
func JobIndexed(s *batchv1.JobSpec) bool {
	return s.CompletionMode != nil && *s.CompletionMode == batchv1.IndexedCompletion
}

// JobPaused says why a job that is not finished makes no pods, "" when it does.
func JobPaused(s *batchv1.JobSpec) string {
	switch {
	case s.Suspend != nil && *s.Suspend:
		return "it is suspended"
	case s.Parallelism != nil && *s.Parallelism == 0:
		return "its parallelism is 0"
	}
	return ""
}

// JobAtOnce is how many pods of a job may run side by side from now on: no more than are still to succeed.
func JobAtOnce(j *api.JobState) int {
	if j.Finished() != nil || JobPaused(j.Spec) != "" {
		return 0
	}
	n := int(*j.Spec.Parallelism)
	if j.Spec.Completions != nil {
		n = min(n, int(*j.Spec.Completions-j.Status.Succeeded))
	} else if j.Status.Succeeded > 0 {
		n = 0
	}
	return max(n, 0)
}

// NextJob decides what a job wants done now (semantics.md 3.6). pods are those that run, in the order in which they were made, and those
// that have ended by themselves since the decision before; what has ended is counted in the state that comes back, and must not be
// given again. A pod that was taken away because a decision said so is in no later call.
func NextJob(w *api.JobWork, state api.JobState, pods []api.JobPod, now time.Time) api.JobDecision {
	j := &jobRound{work: w, state: state, spec: state.Spec, now: now}
	j.state.Status = *state.Status.DeepCopy()
	j.start()
	j.count(pods)
	j.verdict()
	j.manage()
	j.settle()
	return api.JobDecision{State: j.state, Create: j.create, Delete: j.remove, Again: j.again, Delayed: j.delayed, Over: j.over()}
}

// jobRound is one decision in the making.
type jobRound struct {
	work  *api.JobWork
	state api.JobState
	spec  *batchv1.JobSpec
	now   time.Time

	active, leaving []api.JobPod
	failing         *batchv1.JobCondition // why the job fails
	succeeding      *batchv1.JobCondition // why it is complete

	create  []api.JobPod
	remove  []string
	again   time.Time
	delayed string
}

func (j *jobRound) suspended() bool { return j.spec.Suspend != nil && *j.spec.Suspend }

// start notes when the job began to run, or stopped to.
func (j *jobRound) start() {
	s := &j.state.Status
	if j.state.Finished() != nil {
		return
	}
	if j.suspended() {
		if j.state.Condition(batchv1.JobSuspended) == nil {
			j.set(batchv1.JobSuspended, true, "JobSuspended", "Job suspended")
		}
		s.StartTime = nil
		return
	}
	if j.state.Condition(batchv1.JobSuspended) != nil {
		j.set(batchv1.JobSuspended, false, "JobResumed", "Job resumed")
	}
	if s.StartTime == nil {
		s.StartTime = j.time()
	}
}

func (j *jobRound) time() *metav1.Time {
	t := metav1.NewTime(j.now.UTC().Truncate(time.Second))
	return &t
}

func (j *jobRound) set(t batchv1.JobConditionType, on bool, reason, message string) {
	status := corev1.ConditionFalse
	if on {
		status = corev1.ConditionTrue
	}
	c := batchv1.JobCondition{Type: t, Status: status, Reason: reason, Message: message, LastProbeTime: *j.time(), LastTransitionTime: *j.time()}
	list := &j.state.Status.Conditions
	if i := slices.IndexFunc(*list, func(o batchv1.JobCondition) bool { return o.Type == t }); i >= 0 {
		(*list)[i] = c
		return
	}
	*list = append(*list, c)
}

// count takes in what has ended, in the order in which it did.
func (j *jobRound) count(pods []api.JobPod) {
	pods = slices.Clone(pods)
	slices.SortStableFunc(pods, func(a, b api.JobPod) int { return a.Finished.Compare(b.Finished) })
	completed := api.ParseIndexes(j.state.Status.CompletedIndexes)
	for _, p := range pods {
		switch {
		case p.Phase == corev1.PodSucceeded:
			j.succeed(p, completed)
		case p.Phase == corev1.PodFailed:
			j.fail(p)
		case p.Deleting:
			j.leaving = append(j.leaving, p)
		default:
			j.active = append(j.active, p)
		}
	}
	if JobIndexed(j.spec) {
		j.state.Status.CompletedIndexes = completed.String()
		j.state.Status.Succeeded = int32(len(completed))
	}
}

func (j *jobRound) succeed(p api.JobPod, completed api.Indexes) {
	if last := j.state.LastFailure; last == nil || !p.Finished.Before(*last) { // one that ended before is only heard of after it
		j.state.Failures, j.state.LastFailure = 0, nil
	}
	if !JobIndexed(j.spec) {
		j.state.Status.Succeeded++
		return
	}
	if p.Index >= 0 && (j.spec.Completions == nil || p.Index < int(*j.spec.Completions)) {
		completed[p.Index] = true
	}
}

func (j *jobRound) fail(p api.JobPod) {
	action := batchv1.PodFailurePolicyActionCount
	message := ""
	if j.spec.PodFailurePolicy != nil {
		action, message = failureAction(j.spec.PodFailurePolicy, j.work.Pod.Namespace, p)
	}
	if action == batchv1.PodFailurePolicyActionIgnore {
		return
	}
	j.state.Status.Failed++
	j.state.Failures++
	at := p.Finished.UTC()
	if at.IsZero() {
		at = j.now.UTC()
	}
	if j.state.LastFailure == nil || at.After(*j.state.LastFailure) {
		j.state.LastFailure = &at
	}
	if action == batchv1.PodFailurePolicyActionFailJob && j.failing == nil {
		j.failing = &batchv1.JobCondition{Reason: batchv1.JobReasonPodFailurePolicy, Message: message}
	}
	if j.spec.BackoffLimitPerIndex != nil && p.Index >= 0 {
		j.failIndex(p.Index, at, action == batchv1.PodFailurePolicyActionFailIndex)
	}
}

// failIndex counts a failure of one index. With more of them than its limit the index is given up.
func (j *jobRound) failIndex(index int, at time.Time, whole bool) {
	indexes := map[int]api.IndexFailures{}
	for i, f := range j.state.Indexes {
		indexes[i] = f
	}
	f := api.IndexFailures{Count: indexes[index].Count + 1, Last: at}
	if indexes[index].Last.After(at) {
		f.Last = indexes[index].Last
	}
	indexes[index] = f
	j.state.Indexes = indexes
	if whole || f.Count > *j.spec.BackoffLimitPerIndex {
		failed := j.failedIndexes()
		failed[index] = true
		text := failed.String()
		j.state.Status.FailedIndexes = &text
	}
}

func (j *jobRound) failedIndexes() api.Indexes {
	if j.state.Status.FailedIndexes == nil {
		return api.Indexes{}
	}
	return api.ParseIndexes(*j.state.Status.FailedIndexes)
}

// verdict says whether the job is bound to fail or to succeed. Once it is, it stays so.
func (j *jobRound) verdict() {
	if j.state.Finished() != nil {
		return
	}
	if c := j.state.Condition(batchv1.JobFailureTarget); c != nil {
		j.failing = c
		return
	}
	if c := j.state.Condition(batchv1.JobSuccessCriteriaMet); c != nil {
		j.succeeding = c
		return
	}
	if j.failing == nil {
		j.failing = j.failure()
	}
	if j.failing != nil {
		j.set(batchv1.JobFailureTarget, true, j.failing.Reason, j.failing.Message)
		return
	}
	if j.succeeding = j.success(); j.succeeding != nil {
		j.set(batchv1.JobSuccessCriteriaMet, true, j.succeeding.Reason, j.succeeding.Message)
	}
}

func (j *jobRound) failure() *batchv1.JobCondition {
	s := j.spec
	var restarts int32
	for _, p := range j.active {
		restarts += p.Restarts
	}
	onFailure := s.Template.Spec.RestartPolicy == corev1.RestartPolicyOnFailure
	limit := *s.BackoffLimit
	switch {
	case j.state.Status.Failed > limit, onFailure && limit == 0 && restarts > 0, onFailure && limit > 0 && restarts >= limit:
		return &batchv1.JobCondition{Reason: batchv1.JobReasonBackoffLimitExceeded, Message: "Job has reached the specified backoff limit"}
	case j.pastDeadline():
		return &batchv1.JobCondition{Reason: batchv1.JobReasonDeadlineExceeded, Message: "Job was active longer than specified deadline"}
	}
	failed := len(j.failedIndexes())
	switch {
	case failed == 0 || s.BackoffLimitPerIndex == nil:
	case s.MaxFailedIndexes != nil && failed > int(*s.MaxFailedIndexes):
		return &batchv1.JobCondition{Reason: batchv1.JobReasonMaxFailedIndexesExceeded, Message: "Job has exceeded the specified maximal number of failed indexes"}
	case failed+int(j.state.Status.Succeeded) >= int(*s.Completions):
		return &batchv1.JobCondition{Reason: batchv1.JobReasonFailedIndexes, Message: "Job has failed indexes"}
	}
	return nil
}

func (j *jobRound) deadline() (time.Time, bool) {
	if j.spec.ActiveDeadlineSeconds == nil || j.state.Status.StartTime == nil || j.suspended() {
		return time.Time{}, false
	}
	return j.state.Status.StartTime.Add(time.Duration(*j.spec.ActiveDeadlineSeconds) * time.Second), true
}

func (j *jobRound) pastDeadline() bool {
	at, ok := j.deadline()
	return ok && !j.now.Before(at)
}

func (j *jobRound) success() *batchv1.JobCondition {
	s, status := j.spec, &j.state.Status
	if message := succeedsEarly(s, status.CompletedIndexes); message != "" {
		return &batchv1.JobCondition{Reason: batchv1.JobReasonSuccessPolicy, Message: message}
	}
	reached := s.Completions == nil && status.Succeeded > 0 && len(j.active) == 0
	if s.Completions != nil {
		reached = status.Succeeded >= *s.Completions
	}
	if !reached {
		return nil
	}
	return &batchv1.JobCondition{Reason: batchv1.JobReasonCompletionsReached, Message: "Reached expected number of succeeded pods"}
}

// manage says which pods to make and which to take away.
func (j *jobRound) manage() {
	if j.failing != nil || j.succeeding != nil || j.state.Finished() != nil || j.suspended() {
		j.stop(j.active)
		return
	}
	if at, ok := j.deadline(); ok {
		j.look(at)
	}
	wanted := JobAtOnce(&j.state)
	if j.spec.Completions == nil && j.state.Status.Succeeded > 0 {
		wanted = len(j.active) // those that run go on to their ends
	}
	keep := j.surplus(wanted)
	missing := wanted - len(keep)
	if *j.spec.PodReplacementPolicy == batchv1.Failed {
		missing -= len(j.leaving)
	}
	if missing > 0 {
		j.fill(keep, missing)
	}
}

func (j *jobRound) stop(pods []api.JobPod) {
	for _, p := range pods {
		j.remove = append(j.remove, p.Name)
	}
	slices.Sort(j.remove)
}

// surplus stops what is more than wanted and returns the others: second pods of one index go first, then those made last.
func (j *jobRound) surplus(wanted int) []api.JobPod {
	done, failed := api.ParseIndexes(j.state.Status.CompletedIndexes), j.failedIndexes()
	var keep, stop []api.JobPod
	taken := map[int]bool{}
	for _, p := range j.active {
		if p.Index >= 0 && (taken[p.Index] || done[p.Index] || failed[p.Index]) {
			stop = append(stop, p)
			continue
		}
		taken[p.Index] = true
		keep = append(keep, p)
	}
	if more := len(keep) - wanted; more > 0 {
		stop = append(stop, keep[wanted:]...)
		keep = keep[:wanted]
	}
	j.stop(stop)
	return keep
}

// fill makes pods in free slots, as many as are missing, unless a failure holds them back.
func (j *jobRound) fill(keep []api.JobPod, missing int) {
	if at := j.resume(); at.After(j.now) {
		j.look(at)
		j.delayed = fmt.Sprintf("the next pod waits until %s after %s", delay(j.state.Failures), times(j.state.Failures))
		return
	}
	indexes := j.openIndexes(keep)
	for slot := range j.work.Slots {
		if len(j.create) == missing {
			return
		}
		busy := func(p api.JobPod) bool { return p.Slot == slot }
		if slices.ContainsFunc(j.active, busy) || slices.ContainsFunc(j.leaving, busy) {
			continue
		}
		p := api.JobPod{Node: j.work.Slots[slot], Slot: slot, Index: -1, Phase: corev1.PodRunning}
		if JobIndexed(j.spec) {
			if len(indexes) == 0 {
				return
			}
			p.Index, indexes = indexes[0], indexes[1:]
		}
		p.Name, p.UID = jobPodName(j.work.Seed, j.state.Name, p.Index, j.state.Pods)
		j.state.Pods++
		j.create = append(j.create, p)
	}
}

// resume is when pods may be made again after failures. Where every index has a limit of its own, each has a delay of its own.
func (j *jobRound) resume() time.Time {
	if j.spec.BackoffLimitPerIndex != nil || j.state.LastFailure == nil || j.state.Failures == 0 {
		return time.Time{}
	}
	return j.state.LastFailure.Add(delay(j.state.Failures))
}

// openIndexes are those that have neither ended nor a pod, lowest first, and need not wait.
func (j *jobRound) openIndexes(keep []api.JobPod) []int {
	if !JobIndexed(j.spec) {
		return nil
	}
	done, failed := api.ParseIndexes(j.state.Status.CompletedIndexes), j.failedIndexes()
	for _, p := range keep {
		done[p.Index] = true
	}
	if *j.spec.PodReplacementPolicy == batchv1.Failed {
		for _, p := range j.leaving {
			done[p.Index] = true
		}
	}
	var out []int
	for i := range int(*j.spec.Completions) {
		if done[i] || failed[i] {
			continue
		}
		if f, ok := j.state.Indexes[i]; ok && j.spec.BackoffLimitPerIndex != nil {
			if at := f.Last.Add(delay(f.Count)); at.After(j.now) {
				j.look(at)
				j.delayed = fmt.Sprintf("index %d waits %s after %s", i, delay(f.Count), times(f.Count))
				continue
			}
		}
		out = append(out, i)
	}
	return out
}

// look asks for another decision at a time.
func (j *jobRound) look(at time.Time) {
	if j.again.IsZero() || at.Before(j.again) {
		j.again = at
	}
}

// delay is how long the next pod waits after n failures in a row.
func delay(n int32) time.Duration {
	d := firstDelay
	for ; n > 1 && d < lastDelay; n-- {
		d *= 2
	}
	return min(d, lastDelay)
}

func times(n int32) string {
	if n == 1 {
		return "a failure"
	}
	return strconv.Itoa(int(n)) + " failures in a row"
}

// settle ends the job when none of its pods is left running, and writes down the numbers.
func (j *jobRound) settle() {
	s := &j.state.Status
	running := len(j.active)
	if running == 0 && len(j.leaving) == 0 && j.state.Finished() == nil {
		switch {
		case j.failing != nil:
			j.set(batchv1.JobFailed, true, j.failing.Reason, j.failing.Message)
		case j.succeeding != nil:
			j.set(batchv1.JobComplete, true, j.succeeding.Reason, j.succeeding.Message)
			s.CompletionTime = j.time()
		}
	}
	s.Active = int32(running - len(j.remove) + len(j.create))
	leaving := int32(len(j.leaving) + len(j.remove))
	s.Terminating, s.Ready = nil, nil
	if leaving > 0 {
		s.Terminating = &leaving
	}
}

func (j *jobRound) over() bool {
	if len(j.active)+len(j.leaving)+len(j.create) > 0 {
		return false
	}
	return j.state.Finished() != nil || JobPaused(j.spec) != ""
}

// jobPodName names the n-th pod of a job: "<job>-<5 letters>", "<job>-<index>-<5 letters>" with an index. The same seed and n give
// the same name and uid.
func jobPodName(seed, job string, index, n int) (name, uid string) {
	text := seed + "\x00" + job + "\x00" + strconv.Itoa(n)
	sum := sha256.Sum256([]byte(text))
	suffix := randomText(binary.BigEndian.Uint64(sum[:8]))
	if index >= 0 {
		suffix = strconv.Itoa(index) + "-" + suffix
	}
	if room := 62 - len(suffix); len(job) > room {
		job = job[:room]
	}
	return job + "-" + suffix, uuid.NewSHA1(uuid.NameSpaceOID, []byte(text)).String()
}

// randomText is five letters of the alphabet for generated names.
func randomText(v uint64) string {
	suffix := make([]byte, 5)
	for i := range suffix {
		suffix[i] = alphabet[v%uint64(len(alphabet))]
		v /= uint64(len(alphabet))
	}
	return string(suffix)
}
