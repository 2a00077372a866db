package rollout

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"pgregory.net/rapid"

	"berth.dev/berth/api"
)

// jobWorld runs the pods of one job by a script and keeps the time.
type jobWorld struct {
	work  *api.JobWork
	state api.JobState
	pods  []api.JobPod
	now   time.Time
	made  []string // "3s p1" of every pod that was made, with its index
	last  api.JobDecision
}

func newJobWorld(slots int, change func(*batchv1.JobSpec)) *jobWorld {
	spec := &batchv1.JobSpec{}
	spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	change(spec)
	JobDefaults(spec)
	pod := &corev1.Pod{}
	pod.Namespace = "dev"
	w := &api.JobWork{Pod: pod, Seed: "seed"}
	for i := range slots {
		w.Slots = append(w.Slots, fmt.Sprint("n", i))
	}
	return &jobWorld{work: w, state: api.JobState{Name: "mig", Spec: spec}, now: noon}
}

// decide takes one decision and does at once what it says.
func (w *jobWorld) decide() api.JobDecision {
	d := NextJob(w.work, w.state, w.pods, w.now)
	w.state, w.last = d.State, d
	w.pods = slices.DeleteFunc(w.pods, func(p api.JobPod) bool { return p.Phase != corev1.PodRunning || slices.Contains(d.Delete, p.Name) })
	for _, p := range d.Create {
		w.pods = append(w.pods, p)
		w.made = append(w.made, fmt.Sprintf("%s@%d", w.now.Sub(noon), p.Index))
	}
	return d
}

// end lets a pod end.
func (w *jobWorld) end(i int, code int32) {
	p := &w.pods[i]
	p.Phase, p.Finished, p.Containers = corev1.PodSucceeded, w.now, []api.ContainerEnd{{Name: "app", ExitCode: code}}
	if code != 0 {
		p.Phase = corev1.PodFailed
	}
}

// wait lets time pass until the job asks for a decision.
func (w *jobWorld) wait(t *testing.T) {
	t.Helper()
	if w.last.Again.IsZero() {
		t.Fatal("the job waits for nothing")
	}
	w.now = w.last.Again
}

func (w *jobWorld) conditions() string {
	var out []string
	for _, c := range w.state.Status.Conditions {
		if c.Status == corev1.ConditionTrue {
			out = append(out, string(c.Type)+":"+c.Reason)
		}
	}
	return strings.Join(out, " ")
}

func TestJobToItsEnd(t *testing.T) {
	t.Parallel()
	w := newJobWorld(2, func(s *batchv1.JobSpec) { s.Completions, s.Parallelism = ptr(int32(3)), ptr(int32(2)) })
	if d := w.decide(); len(d.Create) != 2 || d.Create[0].Node != "n0" || d.Create[1].Node != "n1" || d.State.Status.Active != 2 {
		t.Fatalf("first decision %+v", d)
	}
	w.now = w.now.Add(time.Second)
	w.end(1, 0)
	if d := w.decide(); len(d.Create) != 1 || d.Create[0].Slot != 1 || d.State.Status.Succeeded != 1 {
		t.Fatalf("after one success %+v", d)
	}
	w.end(0, 0)
	w.end(1, 0)
	d := w.decide()
	if !d.Over || w.conditions() != "SuccessCriteriaMet:CompletionsReached Complete:CompletionsReached" || d.State.Status.CompletionTime == nil || d.State.Status.Active != 0 {
		t.Fatalf("at the end %+v", d)
	}
	if again := w.decide(); !again.Over || len(again.Create) > 0 || cmp.Diff(d.State, again.State) != "" {
		t.Errorf("a finished job changes: %+v", again)
	}
}

func TestJobBackOff(t *testing.T) {
	t.Parallel()
	w := newJobWorld(1, func(s *batchv1.JobSpec) { s.BackoffLimit = ptr(int32(8)) })
	w.decide()
	var delays []string
	for range 8 {
		w.end(0, 1)
		if d := w.decide(); len(d.Create) != 0 || d.Delayed == "" {
			t.Fatalf("a pod is made at once after a failure: %+v", d)
		}
		before := w.now
		w.wait(t)
		delays = append(delays, w.now.Sub(before).String())
		w.now = w.now.Add(-time.Second)
		if d := w.decide(); len(d.Create) != 0 {
			t.Fatal("a pod is made a second too early")
		}
		w.now = w.now.Add(time.Second)
		if d := w.decide(); len(d.Create) != 1 {
			t.Fatalf("no pod is made after the delay: %+v", d)
		}
	}
	if got := strings.Join(delays, " "); got != "10s 20s 40s 1m20s 2m40s 5m20s 10m0s 10m0s" {
		t.Errorf("delays %s", got)
	}
	w.end(0, 1)
	if d := w.decide(); !d.Over || w.conditions() != "FailureTarget:BackoffLimitExceeded Failed:BackoffLimitExceeded" || d.State.Status.Failed != 9 {
		t.Errorf("after nine failures: %s, %+v", w.conditions(), d)
	}
}

func TestSuccessEndsBackOff(t *testing.T) {
	t.Parallel()
	w := newJobWorld(2, func(s *batchv1.JobSpec) { s.Completions, s.Parallelism = ptr(int32(9)), ptr(int32(2)) })
	w.decide()
	w.end(0, 1)
	if d := w.decide(); len(d.Create) != 0 || w.last.Again != w.now.Add(10*time.Second) {
		t.Fatalf("after a failure %+v", d)
	}
	w.now = w.now.Add(time.Second)
	w.end(0, 0)
	if d := w.decide(); len(d.Create) != 2 {
		t.Fatalf("a success does not end the delay: %+v", d)
	}
	w.end(0, 1)
	w.decide()
	if d := w.decide(); w.last.Again != w.now.Add(10*time.Second) || d.State.Failures != 1 {
		t.Errorf("the delay does not begin again at 10 s: %+v", d)
	}
	w.now = w.now.Add(time.Second)
	w.end(0, 0) // it ended before the failure, and is heard of after it
	w.pods[0].Finished = w.state.LastFailure.Add(-time.Second)
	if d := w.decide(); len(d.Create) != 0 || d.State.Failures != 1 || d.State.Status.Succeeded != 2 {
		t.Errorf("a success before the failure ends the delay: %+v", d)
	}
}

func TestJobRules(t *testing.T) {
	t.Parallel()
	type spec = batchv1.JobSpec
	i32 := func(n int32) *int32 { return &n }
	indexed := func(s *spec) { s.CompletionMode = ptr(batchv1.IndexedCompletion) }
	exit := func(action batchv1.PodFailurePolicyAction, op batchv1.PodFailurePolicyOnExitCodesOperator, codes ...int32) batchv1.PodFailurePolicyRule {
		return batchv1.PodFailurePolicyRule{Action: action, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: op, Values: codes}}
	}
	const in, notIn = batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn
	tests := []struct {
		name   string
		slots  int
		change func(*spec)
		run    func(t *testing.T, w *jobWorld)
		want   string // conditions
		status string // succeeded, failed, completed and failed indexes
		made   string
	}{
		{"a queue ends with its first success and the last pod", 3, func(s *spec) { s.Parallelism = i32(3) }, func(t *testing.T, w *jobWorld) {
			w.decide()
			w.end(0, 0)
			if d := w.decide(); d.Over || len(d.Create) > 0 || len(d.Delete) > 0 {
				t.Fatalf("after the first success %+v", d)
			}
			w.end(0, 0)
			w.decide()
			w.end(0, 1)
			w.decide()
		}, "SuccessCriteriaMet:CompletionsReached Complete:CompletionsReached", "2 1 ", "0s@-1 0s@-1 0s@-1"},
		{"a limit of none", 1, func(s *spec) { s.BackoffLimit = i32(0) }, func(_ *testing.T, w *jobWorld) {
			w.decide()
			w.end(0, 3)
			w.decide()
		}, "FailureTarget:BackoffLimitExceeded Failed:BackoffLimitExceeded", "0 1 ", "0s@-1"},
		{"restarts count when containers restart", 2, func(s *spec) {
			s.BackoffLimit, s.Completions, s.Parallelism = i32(3), i32(2), i32(2)
			s.Template.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
		}, func(t *testing.T, w *jobWorld) {
			w.decide()
			w.pods[0].Restarts, w.pods[1].Restarts = 1, 1
			if d := w.decide(); len(d.Delete) > 0 {
				t.Fatal("two restarts are too many")
			}
			w.pods[1].Restarts = 2
			if d := w.decide(); len(d.Delete) != 2 || d.Over {
				t.Fatalf("its pods are not stopped: %+v", d)
			}
			w.decide()
		}, "FailureTarget:BackoffLimitExceeded Failed:BackoffLimitExceeded", "0 0 ", "0s@-1 0s@-1"},
		{"the deadline", 1, func(s *spec) { s.ActiveDeadlineSeconds = ptr(int64(60)) }, func(t *testing.T, w *jobWorld) {
			w.decide()
			w.wait(t)
			if d := w.decide(); len(d.Delete) != 1 {
				t.Fatalf("the pod is not stopped: %+v", d)
			}
			w.decide()
		}, "FailureTarget:DeadlineExceeded Failed:DeadlineExceeded", "0 0 ", "0s@-1"},
		{"a deadline during a delay", 1, func(s *spec) { s.ActiveDeadlineSeconds = ptr(int64(15)) }, func(t *testing.T, w *jobWorld) {
			w.now = w.now.Add(10 * time.Second)
			w.state.Status.StartTime = ptr(metaTime(noon))
			w.decide()
			w.end(0, 1)
			w.decide()
			w.wait(t)
			w.decide()
		}, "FailureTarget:DeadlineExceeded Failed:DeadlineExceeded", "0 1 ", "10s@-1"},
		{"indexes", 2, func(s *spec) { s.Completions, s.Parallelism = i32(4), i32(2); indexed(s) }, func(_ *testing.T, w *jobWorld) {
			w.decide()
			w.end(1, 0)
			w.decide()
			w.end(1, 0) // index 2
			w.decide()
			w.end(0, 0)
			w.end(1, 0)
			w.decide()
		}, "SuccessCriteriaMet:CompletionsReached Complete:CompletionsReached", "4 0 0-3", "0s@0 0s@1 0s@2 0s@3"},
		{"a failed index is tried again before the others are done", 1, func(s *spec) { s.Completions = i32(2); indexed(s) }, func(t *testing.T, w *jobWorld) {
			w.decide()
			w.end(0, 1)
			w.decide()
			w.wait(t)
			w.decide()
			w.end(0, 0)
			w.decide()
			w.end(0, 0)
			w.decide()
		}, "SuccessCriteriaMet:CompletionsReached Complete:CompletionsReached", "2 1 0,1", "0s@0 10s@0 10s@1"},
		{"a limit for each index", 2, func(s *spec) {
			s.Completions, s.Parallelism, s.BackoffLimitPerIndex = i32(3), i32(2), i32(0)
			indexed(s)
		}, func(_ *testing.T, w *jobWorld) {
			w.decide()
			w.end(0, 1) // index 0 is given up, index 2 comes at once
			w.decide()
			w.end(0, 0)
			w.end(1, 0)
			w.decide()
		}, "FailureTarget:FailedIndexes Failed:FailedIndexes", "2 1 1,2 0", "0s@0 0s@1 0s@2"},
		{"each index has a delay of its own", 2, func(s *spec) {
			s.Completions, s.Parallelism, s.BackoffLimitPerIndex = i32(2), i32(2), i32(1)
			indexed(s)
		}, func(t *testing.T, w *jobWorld) {
			w.decide()
			w.end(0, 1)
			w.now = w.now.Add(3 * time.Second)
			w.decide()
			w.wait(t)
			w.decide()
			w.end(0, 0)
			w.end(1, 0)
			w.decide()
		}, "SuccessCriteriaMet:CompletionsReached Complete:CompletionsReached", "2 1 0,1", "0s@0 0s@1 10s@0"},
		{"too many failed indexes", 2, func(s *spec) {
			s.Completions, s.Parallelism, s.BackoffLimitPerIndex, s.MaxFailedIndexes = i32(5), i32(2), i32(0), i32(1)
			indexed(s)
		}, func(_ *testing.T, w *jobWorld) {
			w.decide()
			w.end(0, 1)
			w.end(1, 1)
			w.decide()
		}, "FailureTarget:MaxFailedIndexesExceeded Failed:MaxFailedIndexesExceeded", "0 2  0,1", "0s@0 0s@1"},
		{"a rule fails the job", 2, func(s *spec) {
			s.Completions, s.Parallelism = i32(5), i32(2)
			s.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{exit(batchv1.PodFailurePolicyActionFailJob, in, 42)}}
		}, func(t *testing.T, w *jobWorld) {
			w.decide()
			w.end(0, 42)
			d := w.decide()
			if len(d.Delete) != 1 || d.State.Condition(batchv1.JobFailureTarget).Message != "Container app for pod dev/"+w.made0()+" failed with exit code 42 matching FailJob rule at index 0" {
				t.Fatalf("%+v", d)
			}
			w.decide()
		}, "FailureTarget:PodFailurePolicy Failed:PodFailurePolicy", "0 1 ", "0s@-1 0s@-1"},
		{"a rule ignores", 1, func(s *spec) {
			s.BackoffLimit = i32(0)
			s.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{
				{Action: batchv1.PodFailurePolicyActionIgnore, OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}}}}
		}, func(_ *testing.T, w *jobWorld) {
			w.decide()
			w.end(0, 137)
			w.pods[0].Conditions = []string{"DisruptionTarget"}
			w.decide()
			w.end(0, 0)
			w.decide()
		}, "SuccessCriteriaMet:CompletionsReached Complete:CompletionsReached", "1 0 ", "0s@-1 0s@-1"},
		{"a rule gives up an index", 1, func(s *spec) {
			s.Completions, s.BackoffLimitPerIndex = i32(1), i32(5)
			indexed(s)
			s.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{exit(batchv1.PodFailurePolicyActionFailIndex, notIn, 1, 2)}}
		}, func(_ *testing.T, w *jobWorld) {
			w.decide()
			w.end(0, 3)
			w.decide()
		}, "FailureTarget:FailedIndexes Failed:FailedIndexes", "0 1  0", "0s@0"},
		{"a success policy ends the job early", 3, func(s *spec) {
			s.Completions, s.Parallelism = i32(3), i32(3)
			indexed(s)
			s.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededIndexes: ptr("1-2"), SucceededCount: i32(1)}}}
		}, func(t *testing.T, w *jobWorld) {
			w.decide()
			w.end(2, 0)
			if d := w.decide(); len(d.Delete) != 2 {
				t.Fatalf("%+v", d)
			}
			w.decide()
		}, "SuccessCriteriaMet:SuccessPolicy Complete:SuccessPolicy", "1 0 2", "0s@0 0s@1 0s@2"},
		{"suspended and resumed", 1, func(s *spec) { s.Suspend = ptr(true) }, func(t *testing.T, w *jobWorld) {
			if d := w.decide(); !d.Over || w.conditions() != "Suspended:JobSuspended" || d.State.Status.StartTime != nil {
				t.Fatalf("%s %+v", w.conditions(), d)
			}
			w.state.Spec.Suspend = ptr(false)
			w.now = w.now.Add(time.Hour)
			w.decide()
			w.state.Spec.Suspend = ptr(true)
			if d := w.decide(); len(d.Delete) != 1 || d.Over {
				t.Fatalf("%+v", d)
			}
			if d := w.decide(); !d.Over || d.State.Status.Failed != 0 {
				t.Fatalf("%+v", d)
			}
			w.state.Spec.Suspend = ptr(false)
			w.decide()
			w.end(0, 0)
			w.decide()
		}, "SuccessCriteriaMet:CompletionsReached Complete:CompletionsReached", "1 0 ", "1h0m0s@-1 1h0m0s@-1"},
		{"fewer at once", 3, func(s *spec) { s.Completions, s.Parallelism = i32(9), i32(3) }, func(t *testing.T, w *jobWorld) {
			w.decide()
			first := w.pods[0].Name
			w.state.Spec.Parallelism = i32(1)
			w.decide()
			if len(w.pods) != 1 || w.pods[0].Name != first {
				t.Fatalf("left are %+v", w.pods)
			}
			w.state.Spec.Parallelism = i32(0)
			w.decide()
			if d := w.decide(); !d.Over || w.conditions() != "" {
				t.Fatalf("%+v", d)
			}
		}, "", "0 0 ", "0s@-1 0s@-1 0s@-1"},
		{"a pod that is leaving holds its place when only failed ones are replaced", 2, func(s *spec) {
			s.PodReplacementPolicy = ptr(batchv1.Failed)
		}, func(t *testing.T, w *jobWorld) {
			w.decide()
			w.pods[0].Deleting = true
			if d := w.decide(); len(d.Create) != 0 || *d.State.Status.Terminating != 1 {
				t.Fatalf("%+v", d)
			}
			w.pods = nil
			w.decide()
		}, "", "0 0 ", "0s@-1 0s@-1"},
		{"and does not otherwise", 2, func(*spec) {}, func(t *testing.T, w *jobWorld) {
			w.decide()
			w.pods[0].Deleting = true
			if d := w.decide(); len(d.Create) != 1 || d.Create[0].Slot != 1 {
				t.Fatalf("%+v", d)
			}
		}, "", "0 0 ", "0s@-1 0s@-1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newJobWorld(tt.slots, tt.change)
			tt.run(t, w)
			s := w.state.Status
			status := fmt.Sprintf("%d %d %s", s.Succeeded, s.Failed, s.CompletedIndexes)
			if s.FailedIndexes != nil {
				status += " " + *s.FailedIndexes
			}
			if got := strings.Join(w.made, " "); w.conditions() != tt.want || status != tt.status || got != tt.made {
				t.Errorf("conditions %q, want %q\nstatus %q, want %q\nmade %q, want %q", w.conditions(), tt.want, status, tt.status, got, tt.made)
			}
		})
	}
}

func metaTime(t time.Time) metav1.Time { return metav1.NewTime(t) }

// made0 is the name of the first pod.
func (w *jobWorld) made0() string {
	name, _ := jobPodName("seed", "mig", -1, 0)
	return name
}

func TestJobPodNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a-very-long-name-", 5)
	seen := map[string]bool{}
	for n := range 50 {
		name, uid := jobPodName("s", long, 12345, n)
		if len(validation.IsDNS1123Label(name)) > 0 || !strings.HasPrefix(name, "a-very-long-name-") || !strings.Contains(name, "-12345-") || seen[name] || seen[uid] {
			t.Errorf("pod %d is %q, %s", n, name, uid)
		}
		seen[name], seen[uid] = true, true
	}
}

// TestJobKeepsItsPromises runs any job with any outcomes: never more pods than it may have, no index with two, none that has
// succeeded again, no pod during a delay, and it ends as its numbers say.
func TestJobKeepsItsPromises(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		completions, parallelism := rapid.Int32Range(1, 8).Draw(rt, "completions"), rapid.Int32Range(1, 5).Draw(rt, "parallelism")
		limit, indexed := rapid.Int32Range(0, 4).Draw(rt, "limit"), rapid.Bool().Draw(rt, "indexed")
		perIndex := indexed && rapid.Bool().Draw(rt, "per index")
		w := newJobWorld(rapid.IntRange(1, 5).Draw(rt, "slots"), func(s *batchv1.JobSpec) {
			s.Completions, s.Parallelism = &completions, &parallelism
			if indexed {
				s.CompletionMode = ptr(batchv1.IndexedCompletion)
			}
			if perIndex {
				s.BackoffLimitPerIndex = &limit
			} else {
				s.BackoffLimit = &limit
			}
		})
		succeeded, failures, names := map[int]int{}, int32(0), map[string]bool{}
		for round := 0; ; round++ {
			if round > 500 {
				rt.Fatal("the job does not end")
			}
			delayed := w.state.Failures > 0 && !perIndex && w.now.Before(w.state.LastFailure.Add(delay(w.state.Failures)))
			d := w.decide()
			if delayed && len(d.Create) > 0 && d.State.Failures > 0 {
				rt.Fatal("a pod is made during the delay")
			}
			if len(w.pods) > int(parallelism) || len(w.pods) > len(w.work.Slots) || len(w.pods) > int(completions)-int(d.State.Status.Succeeded) {
				rt.Fatalf("%d pods at once", len(w.pods))
			}
			slots, indexes := map[int]bool{}, map[int]bool{}
			for _, p := range w.pods {
				if slots[p.Slot] || indexed && indexes[p.Index] || indexed && succeeded[p.Index] > 0 {
					rt.Fatalf("two pods for one place: %+v", w.pods)
				}
				slots[p.Slot], indexes[p.Index] = true, true
			}
			for _, p := range d.Create {
				if names[p.Name] {
					rt.Fatalf("two pods are named %s", p.Name)
				}
				names[p.Name] = true
			}
			if d.Over {
				break
			}
			if len(w.pods) == 0 && len(d.Delete) == 0 {
				if !d.Again.After(w.now) {
					rt.Fatalf("the job waits for nothing: %+v", d)
				}
				w.now = d.Again
				continue
			}
			w.now = w.now.Add(time.Duration(rapid.IntRange(0, 15).Draw(rt, "seconds")) * time.Second)
			for i := range w.pods {
				switch rapid.IntRange(0, 3).Draw(rt, "outcome") {
				case 0:
					w.end(i, 1)
					failures++
				case 1, 2:
					w.end(i, 0)
					succeeded[w.pods[i].Index]++
				}
			}
			if rapid.Bool().Draw(rt, "killed") { // all that is known is in the state and on the hosts
				b, err := json.Marshal(w.state)
				w.state = api.JobState{}
				if err = errors.Join(err, json.Unmarshal(b, &w.state)); err != nil {
					rt.Fatal(err)
				}
			}
		}
		complete := w.state.Condition(batchv1.JobComplete) != nil
		switch {
		case complete == w.state.Failed():
			rt.Fatalf("it ended as %s", w.conditions())
		case w.state.Status.Failed != failures:
			rt.Fatalf("%d failures were counted of %d", w.state.Status.Failed, failures)
		case complete && w.state.Status.Succeeded < completions:
			rt.Fatalf("complete with %d of %d", w.state.Status.Succeeded, completions)
		case !perIndex && w.state.Failed() && failures <= limit:
			rt.Fatalf("failed after %d failures, %d are allowed", failures, limit)
		case perIndex && w.state.Failed() && w.state.Status.FailedIndexes == nil:
			rt.Fatal("failed without a failed index")
		}
	})
}

func TestIndexes(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "0", "0,1", "0-2", "0-2,5", "1,3,5-9,11"} {
		if got := api.ParseIndexes(text).String(); got != text {
			t.Errorf("%q is written %q", text, got)
		}
	}
}
