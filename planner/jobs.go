package planner

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/graph"
	"berth.dev/berth/planner/rollout"
)

// A job is one step of a plan, job.run: how many pods it needs is not known before they have run. The plan gives it slots, places on
// nodes where its pods can run side by side, and whoever carries out the step asks rollout.NextJob what to do in them. What has
// run is remembered in the state, as api.JobState, so that nothing runs again that has run.

// JobRequest asks for a run of a cronjob now.
type JobRequest struct {
	Address api.Address // of the cronjob
	Name    string      // of the run
	// Scheduled is the time for which the run is; zero for one that somebody asked for.
	Scheduled time.Time
	// Replace names the runs that are ended before, and forgotten.
	Replace []string
}

// jobRun is one run that a plan begins or carries on.
type jobRun struct {
	state    api.JobState // as the step finds it
	template *corev1.PodTemplateSpec
	reason   string
	noWait   bool
	begins   bool
	present  []api.JobPod // its pods that have not been counted
	slots    []*pod       // one for each pod that may run beside the others
	first    []api.JobPod // the pods that it makes first
}

// isJob reports whether a workload is a job or a cronjob.
func (w *workload) isJob() bool { return w.want != nil && w.want.Job != nil }

// changeJob says which runs of a job or cronjob go on or begin, and which pods of earlier ones go.
func (d *draft) changeJob(w *workload) {
	if w.address.Kind == api.KindCronJob {
		d.changeCronJob(w)
	} else {
		d.changeSingleJob(w)
	}
	d.removeEvicted(w)
	for _, r := range w.runs {
		r.present = d.presentPods(w, r)
	}
}

func (d *draft) changeSingleJob(w *workload) {
	name := w.object.Name()
	d.checkWaits(w)
	var last *api.JobState
	for _, j := range d.prior.JobsOf(w.address) {
		if j.Name == name {
			last = &j
		} else {
			w.dropRuns = append(w.dropRuns, j.Key())
		}
	}
	anew := ""
	switch {
	case last == nil:
		anew = "new"
	case d.replaced(w.object):
		anew = "forces replacement"
		if d.remade[w.address] {
			anew = "asked for by -replace"
		}
	case last.Hash != w.want.Template.Hash:
		anew = "its template changed"
	case last.Failed() && w.prior == nil:
		anew = "its last run failed: " + last.Finished().Reason
	}
	switch {
	case anew != "":
		for _, p := range w.pods {
			p.evict = firstOf(p.evict, anew)
		}
		r := d.newRun(w, name, anew)
		r.noWait = d.goesOn(w.object)
		w.runs = []*jobRun{r}
	case last.Finished() == nil:
		r := d.carryOn(w, *last)
		r.noWait = d.goesOn(w.object)
		w.runs = []*jobRun{r}
	default:
		d.expire(w, *last)
		if last.Failed() {
			d.warnAt(w.object, "", "Job has failed", "%s has failed (%s: %s) and is not run again by itself. Correct what it needs, and run it again with --replace=%s.",
				w.address, last.Finished().Reason, last.Finished().Message, w.address)
		}
	}
}

// changeCronJob carries on runs that were interrupted, begins one that somebody asks for, and forgets old ones. Its schedule is the
// watchdog's.
func (d *draft) changeCronJob(w *workload) {
	value := w.object.Value.(*batchv1.CronJob)
	var runs []rollout.CronRun
	states := map[string]api.JobState{}
	for _, j := range d.prior.JobsOf(w.address) {
		states[j.Name] = j
		run := rollout.CronRun{Name: j.Name, Finished: j.Finished() != nil, Failed: j.Failed()}
		if j.Status.StartTime != nil {
			run.Started = j.Status.StartTime.Time
		}
		runs = append(runs, run)
		if !run.Finished {
			r := d.carryOn(w, j)
			r.noWait = true // a run of a cronjob is nobody's to wait for but of who started it
			w.runs = append(w.runs, r)
		} else {
			d.expire(w, j)
		}
	}
	for _, name := range rollout.ExpiredRuns(&value.Spec, runs) {
		j := states[name]
		w.dropRuns = append(w.dropRuns, j.Key())
		for _, p := range w.pods {
			if runOf(p) == name {
				p.evict = firstOf(p.evict, "more runs than the history keeps")
			}
		}
	}
	for _, q := range d.Runs {
		if q.Address == w.address {
			d.beginRun(w, q)
		}
	}
}

// beginRun begins a run of a cronjob that somebody or its schedule asks for.
func (d *draft) beginRun(w *workload, q JobRequest) {
	reason := "asked for"
	if !q.Scheduled.IsZero() {
		reason = "its time has come"
	}
	for _, name := range q.Replace {
		w.runs = slices.DeleteFunc(w.runs, func(r *jobRun) bool { return r.state.Name == name })
		w.dropRuns = append(w.dropRuns, api.JobKey{Address: w.address, Name: name})
		for _, p := range w.pods {
			if runOf(p) == name {
				p.evict = firstOf(p.evict, "replaced by the next run")
			}
		}
	}
	r := d.newRun(w, q.Name, reason)
	r.noWait = d.NoWait
	if !q.Scheduled.IsZero() {
		at := q.Scheduled.UTC()
		r.state.Scheduled = &at
	}
	w.runs = append(w.runs, r)
}

// goesOn reports whether apply goes on without waiting for a job's end. It does not where something depends on the job.
func (d *draft) goesOn(o *api.Object) bool {
	return o.NoWait || d.NoWait && len(d.dependents(o.Address)) == 0
}

// endedBefore are the pods of jobs that end before anything of a workload is made, because it waits for them: their room is free by then.
func (d *draft) endedBefore(w *workload) []*pod {
	var out []*pod
	if w.object == nil {
		return nil
	}
	seen := map[api.Address]bool{w.address: true}
	for todo := d.lines.needs(w.object); len(todo) > 0; todo = todo[1:] {
		if seen[todo[0]] {
			continue
		}
		seen[todo[0]] = true
		if o := d.byAddress[todo[0]]; o != nil {
			todo = append(todo, d.lines.needs(o)...)
		}
		job := d.work[todo[0]]
		if job == nil || !job.isJob() {
			continue
		}
		for _, r := range job.runs {
			for _, p := range r.slots {
				if !r.noWait && !p.over {
					out = append(out, p)
				}
			}
		}
	}
	return out
}

func (d *draft) dependents(a api.Address) []*api.Object {
	var out []*api.Object
	for _, o := range d.desired {
		if slices.Contains(o.DependsOn, a) {
			out = append(out, o)
		}
	}
	return out
}

// checkWaits refuses what would wait for ever.
func (d *draft) checkWaits(w *workload) {
	for _, o := range d.dependents(w.address) {
		paused := rollout.JobPaused(w.want.Job)
		done := slices.ContainsFunc(d.prior.JobsOf(w.address), func(j api.JobState) bool { return j.Finished() != nil && !j.Failed() })
		switch {
		case w.object.NoWait:
			d.errorAt(o, "", "Nobody waits for the job", "%s depends on %s, which means after it has completed, but that has wait = false in its lifecycle. Remove one of the two.", o.Address, w.address)
		case paused != "" && !done:
			d.errorAt(o, "", "The job does not run", "%s depends on %s, which means after it has completed, and %s. Let it run, or remove the dependency.", o.Address, w.address, paused)
		}
	}
}

// newRun begins a run under an identity of its own.
func (d *draft) newRun(w *workload, name, reason string) *jobRun {
	id := d.identity(w)
	_, uid := id.Pod("job "+name, 0)
	r := &jobRun{reason: reason, begins: true, template: &w.want.Template.PodTemplateSpec}
	r.state = api.JobState{Address: w.address, Name: name, Namespace: w.object.Namespace(), UID: uid, Hash: w.want.Template.Hash, Spec: w.want.Job}
	r.state.Sensitive = slices.Concat([]string{}, w.sensitive()) // never nil
	return r
}

// carryOn goes on with a run as it was begun. Of its specification only that changes which may change while a job runs.
func (d *draft) carryOn(w *workload, last api.JobState) *jobRun {
	spec := last.Spec.DeepCopy()
	if w.address.Kind == api.KindJob {
		now := w.want.Job
		spec.Parallelism, spec.ActiveDeadlineSeconds, spec.BackoffLimit, spec.TTLSecondsAfterFinished = now.Parallelism, now.ActiveDeadlineSeconds, now.BackoffLimit, now.TTLSecondsAfterFinished
		spec.Suspend, spec.PodReplacementPolicy, spec.MaxFailedIndexes = now.Suspend, now.PodReplacementPolicy, now.MaxFailedIndexes
	}
	last.Spec = spec
	return &jobRun{state: last, template: &spec.Template, reason: "was not finished: " + progressOf(&last)}
}

// progressOf says how far a job has come: "3 of 20 completed".
func progressOf(j *api.JobState) string {
	text := strconv.Itoa(int(j.Status.Succeeded)) + " completed"
	if j.Spec.Completions != nil {
		text = fmt.Sprintf("%d of %d completed", j.Status.Succeeded, *j.Spec.Completions)
	}
	if j.Status.Failed > 0 {
		text += fmt.Sprintf(", %d failed", j.Status.Failed)
	}
	return text
}

// expire removes the pods of a finished run whose time to live is over. That it has run stays known.
func (d *draft) expire(w *workload, j api.JobState) {
	ttl := j.Spec.TTLSecondsAfterFinished
	if w.address.Kind == api.KindJob {
		ttl = w.want.Job.TTLSecondsAfterFinished
	}
	if ttl == nil || j.Expired || d.Now.IsZero() || d.Now.Before(j.Finished().LastTransitionTime.Add(time.Duration(*ttl)*time.Second)) {
		return
	}
	j.Expired = true
	w.expired = append(w.expired, j)
	for _, p := range w.pods {
		if runOf(p) == j.Name {
			p.evict = firstOf(p.evict, "its time to live after the job is over")
		}
	}
}

// runOf is the name of the run that a pod belongs to.
func runOf(p *pod) string { return p.labels[api.LabelJobName] }

// removeEvicted plans the end of the pods that must go. Those that have ended stay on their hosts, for their logs, until then.
func (d *draft) removeEvicted(w *workload) {
	var gone []int
	for i, p := range w.pods {
		if p.evict != "" && !p.fixed {
			gone = append(gone, i)
		}
	}
	w.waves, w.fresh = nil, nil
	if len(gone) > 0 || len(w.runs) > 0 {
		w.waves, w.fresh = []rollout.Wave{{Remove: gone}}, make([][]*pod, 1)
		d.room.release(w, w.waves[0])
	}
}

// presentPods are the pods of a run that have not been counted. One that is missing has failed, and through no fault of its own.
func (d *draft) presentPods(w *workload, r *jobRun) []api.JobPod {
	var out []api.JobPod
	if r.begins {
		return nil
	}
	add := func(p *pod, lost bool) {
		if runOf(p) != r.state.Name || p.counted != "" {
			return
		}
		j := api.JobPod{Name: p.address.Pod, UID: p.uid, Node: p.host.name, Slot: len(r.slots), Index: -1, Phase: corev1.PodRunning}
		if i, err := strconv.Atoi(p.labels[api.AnnJobIndex]); err == nil {
			j.Index = i
		}
		if lost {
			j.Phase, j.Slot, j.Conditions = corev1.PodFailed, -1, []string{string(corev1.DisruptionTarget)}
		} else {
			j.Ended = p.over
			r.slots = append(r.slots, p)
		}
		out = append(out, j)
	}
	for _, p := range w.pods {
		if p.evict == "" {
			add(p, p.missing && !p.fixed)
		}
	}
	for _, p := range slices.Concat(w.gone, w.lost) {
		add(p, true)
	}
	return out
}

// placeJob gives the runs of a job the nodes for their pods: one at least, as many as may run side by side where there is room.
func (d *draft) placeJob(w *workload) *refusal {
	undo := d.room.mark()
	var bound []*volume
	for _, r := range w.runs {
		r.slots = slices.DeleteFunc(r.slots, func(p *pod) bool { return p.fresh }) // of an attempt before
		for len(r.slots) < rollout.JobAtOnce(&r.state) {
			p := &pod{address: w.address, namespace: w.object.Namespace(), uid: r.state.UID, hash: r.state.Hash, labels: d.jobLabels(r), spec: &r.template.Spec, fresh: true, slot: -1}
			fit := d.placeClaiming(w, p)
			if fit != nil && len(r.slots) > 0 {
				break
			}
			if fit != nil {
				undo()
				for _, v := range bound {
					v.host = nil
				}
				return fit
			}
			bound = append(bound, d.bind(w, p.spec, p.host)...)
			r.slots = append(r.slots, p)
		}
	}
	for _, r := range w.runs {
		d.firstPods(w, r)
	}
	return nil
}

// firstPods names the pods that a run makes first, for the plan.
func (d *draft) firstPods(w *workload, r *jobRun) {
	var now time.Time
	if r.noWait && !r.begins {
		now = d.Now // a pause after failures may be over: nobody else is there to see it
	}
	decision := rollout.NextJob(d.jobWork(w, r), r.state, r.present, now)
	r.first = decision.Create
	w.fresh[0] = slices.DeleteFunc(w.fresh[0], func(p *pod) bool { return runOf(p) == r.state.Name })
	for _, j := range r.first {
		p := r.slots[j.Slot]
		p.address, p.wave = w.address.WithPod(j.Name), 1
		w.fresh[0] = append(w.fresh[0], p)
	}
}

func (d *draft) jobLabels(r *jobRun) map[string]string {
	out := map[string]string{}
	for k, v := range r.template.Labels {
		out[k] = v
	}
	for _, k := range []string{api.LabelJobName, api.LabelJobNameOld} {
		out[k] = r.state.Name
	}
	for _, k := range []string{api.LabelControllerUID, api.LabelControllerOld} {
		out[k] = r.state.UID
	}
	return out
}

// jobWork is a run as its step carries it.
func (d *draft) jobWork(w *workload, r *jobRun) *api.JobWork {
	pod := &corev1.Pod{Spec: r.template.Spec}
	pod.APIVersion, pod.Kind = "v1", "Pod"
	pod.Namespace, pod.Labels, pod.Annotations = w.object.Namespace(), d.jobLabels(r), r.template.Annotations
	work := &api.JobWork{Pod: pod, Hash: r.state.Hash, Seed: r.state.UID, State: r.state, Present: r.present, NoWait: r.noWait, Sensitive: r.state.Sensitive}
	if r.state.Sensitive == nil { // begun by a version that did not note them
		work.Sensitive = w.sensitive()
	}
	for _, p := range r.slots {
		work.Slots = append(work.Slots, p.host.name)
	}
	return work
}

// runJobs adds the steps of a job: what must go goes, then each run has its step.
func (d *draft) runJobs(w *workload, needs []graph.Step) []graph.Step {
	t := &changeOver{draft: d, workload: w}
	t.dropGone()
	for k, wave := range w.waves {
		sets := t.leaveServices(k, wave, needs)
		t.remove(wave, slices.Concat(needs, sets))
	}
	cleared := slices.Clone(t.own)
	for _, r := range w.runs {
		if !r.acts() {
			continue
		}
		before := slices.Concat(needs, cleared)
		work := d.jobWork(w, r)
		for _, p := range r.slots {
			before = append(before, p.host.set...)
			before = append(before, p.host.named(api.WantsClusterDNS(&r.template.Spec))...)
			before = append(before, t.imagesFor(w, &pod{object: work.Pod, host: p.host})...)
			before = append(before, t.pull(p.host, api.ImageWork{Ref: api.PauseRef, Build: pauseImage()}, p.host.address())...)
			for _, v := range t.volumesIn(w, &r.template.Spec) {
				before = append(before, t.ensureVolume(v)...)
			}
			for _, gone := range p.waits {
				before = append(before, gone.leaving)
			}
			work.Claims = d.claims(w, &pod{spec: &r.template.Spec})
			p.host.jobs = true
		}
		for _, p := range r.present {
			if h := d.byHost[p.Node]; h != nil {
				h.jobs = true
			}
		}
		work.Objects = d.contents(w)
		for _, a := range work.Objects {
			d.needed[a] = true
		}
		step := d.graph.Add(api.Step{Op: api.OpJobRun, Address: w.address, Reason: r.reason, Job: work}, before...)
		for _, p := range r.slots {
			p.leaving = step
		}
		t.own = append(t.own, step)
	}
	for i := range w.expired {
		t.own = append(t.own, d.graph.Add(api.Step{Op: api.OpRecord, Address: w.address, Reason: "its time to live is over", Delta: api.Delta{PutJob: &w.expired[i]}}, slices.Concat(needs, cleared)...))
	}
	if len(w.dropRuns) > 0 {
		t.own = append(t.own, d.graph.Add(api.Step{Op: api.OpRecord, Address: w.address, Reason: "old runs are forgotten", Delta: api.Delta{DropJobs: w.dropRuns, PutCron: d.lastRun(w)}}, slices.Concat(needs, cleared)...))
	}
	return t.own
}

// lastRun is what is to be remembered of a cronjob whose runs are forgotten; nil for nothing.
func (d *draft) lastRun(w *workload) *api.CronState {
	if last := d.prior.LastScheduled(w.address); !last.IsZero() {
		return &api.CronState{Address: w.address, Last: last}
	}
	return nil
}

// acts reports whether a run has something to do. One that nobody waits for has not while its pods run.
func (r *jobRun) acts() bool {
	if r.begins {
		return true
	}
	if rollout.JobPaused(r.state.Spec) != "" && len(r.present) == 0 {
		suspended := r.state.Spec.Suspend != nil && *r.state.Spec.Suspend
		return suspended != (r.state.Condition(batchv1.JobSuspended) != nil)
	}
	if !r.noWait {
		return true
	}
	ended := slices.ContainsFunc(r.slots, func(p *pod) bool { return p.over }) || len(r.present) > len(r.slots)
	return ended || len(r.first) > 0 || len(r.present) > rollout.JobAtOnce(&r.state)
}

// explainJob gives the pods of a job their reasons, and the job its change.
func (d *draft) explainJob(w *workload) {
	touched := len(w.expired)+len(w.dropRuns) > 0
	for _, wave := range w.waves {
		for _, i := range wave.Remove {
			p := w.pods[i]
			p.removed, p.reason, p.wave, touched = true, p.evict, 1, true
		}
	}
	for _, p := range slices.Concat(w.gone, w.lost) {
		p.reason, touched = firstOf(p.trouble, "node "+p.host.name+" left"), true
	}
	for _, r := range w.runs {
		if !r.acts() {
			w.fresh[0] = slices.DeleteFunc(w.fresh[0], func(p *pod) bool { return runOf(p) == r.state.Name })
			continue
		}
		touched = true
	}
	if !touched {
		return
	}
	c := d.change(w.address)
	c.Before, c.After = w.prior, w.object
	c.Disruption = api.DisruptionNone
	for _, r := range w.runs {
		if !r.acts() {
			continue
		}
		for _, p := range r.slots {
			if p.fresh {
				p.reason = r.reason
			}
		}
		if !(r.begins && c.Action == api.Create && r.reason == "new") && r.reason != "forces replacement" {
			because(c, r.reason)
		}
		c.Rollout = firstOf(c.Rollout, describeRun(r))
		if n := rollout.JobAtOnce(&r.state); len(r.slots) < n {
			d.warnAt(w.object, "spec.parallelism", "Less room than the job could use", "There is room for %d of the %d pods that %s could run side by side. It takes longer.", len(r.slots), n, w.address)
		}
	}
	if w.firstFresh() != nil {
		for _, f := range w.filled {
			c.Notes = append(c.Notes, f.String())
		}
	}
	if len(w.runs) == 0 && c.Reason == "" && c.Action == api.Update && len(c.Diffs) == 0 {
		d.reasonOfPods(w, c)
	}
}

// describeRun says what a run does: "run pod by pod to 20 completions, 4 at a time, at most 6 failures".
func describeRun(r *jobRun) string {
	s := r.state.Spec
	if why := rollout.JobPaused(s); why != "" {
		return "does not run: " + why
	}
	text := "runs to the first completion"
	if s.Completions != nil {
		text = "runs to " + plural(int(*s.Completions), "completion")
	}
	text += fmt.Sprintf(", %d at a time", min(len(r.slots), rollout.JobAtOnce(&r.state)))
	if s.BackoffLimitPerIndex == nil {
		text += fmt.Sprintf(", survives %s", plural(int(*s.BackoffLimit), "failure"))
	}
	if r.noWait {
		text += "; apply does not wait"
	}
	return text
}

// endedRuns are what the state knows of the runs of objects that go.
func (d *draft) endedRuns(a api.Address) []api.JobKey {
	var out []api.JobKey
	for _, j := range d.prior.JobsOf(a) {
		out = append(out, j.Key())
	}
	return out
}

// strayRuns forgets runs of jobs that were never recorded as applied, because they failed, and are not wanted any more.
func (d *draft) strayRuns() {
	for i := 0; i < len(d.prior.Jobs); i++ {
		a := d.prior.Jobs[i].Address
		if i > 0 && d.prior.Jobs[i-1].Address == a || d.byAddress[a] != nil || d.prior.Object(a) != nil || !d.chosen(a) {
			continue
		}
		d.graph.Add(api.Step{Op: api.OpForget, Address: a, Reason: d.reasonToEnd(), Delta: api.Delta{DropJobs: d.endedRuns(a)}}, d.ended[a]...)
	}
}
