package api

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// ObjectEvent is something that happened to an object: "Pulled", "Started", "Unhealthy", "BackOff". It is what
// `berth events` lists and what `berth describe` ends with, and what Kubernetes calls an event; an [Event] is about
// a step of an apply and is not kept. Reasons are those of semantics.md 1.17.
//
// Events are told, never read back: no decision depends on one.
type ObjectEvent struct {
	// Number grows with every event of a state. It orders them, and makes taking over the same one twice harmless.
	Number uint64      `json:"number"`
	Object EventObject `json:"object"`
	// Type is corev1.EventTypeNormal or corev1.EventTypeWarning.
	Type    string `json:"type"`
	Reason  string `json:"reason"`          // one word, for programs: "Pulled"
	Message string `json:"message"`         // for people; at most [EventMessageLimit] bytes
	Field   string `json:"field,omitempty"` // the part of the object: "spec.containers{app}"; see [ContainerField]
	Source  string `json:"source"`          // who saw it: "runtime", "scheduler"
	Node    string `json:"node,omitempty"`  // where
	// Waiting is the state in which the container is left that could not be made: "CreateContainerConfigError",
	// "ImagePullBackOff" (semantics.md 1.5). `get` and `describe` show it as long as the container is not there.
	Waiting string `json:"waiting,omitempty"`
	// Run is the fencing number of the run that told it last. The state's home sets it.
	Run uint64 `json:"run,omitempty"`
	// Count says how often the same happened between First and Last.
	Count int       `json:"count"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
}

// EventObject names what an event is about, also after it is gone.
type EventObject struct {
	Address   Address `json:"address"` // with Pod for a pod; of KindNode for a node
	Namespace string  `json:"namespace,omitempty"`
	Name      string  `json:"name"`
	UID       string  `json:"uid,omitempty"` // of pods: another pod of the same name has another one
}

// Kind returns the object's kind as Kubernetes writes it: "Pod", "Deployment", "Node".
func (o EventObject) Kind() string {
	switch {
	case o.Address.Pod != "" || o.Address.Kind == KindPod:
		return "Pod"
	case o.Address.Kind == KindNode:
		return "Node"
	}
	k, _ := KindByName(o.Address.Kind)
	return k.APIKind
}

// PodEventObject names a pod for its events.
func PodEventObject(a Address, namespace, uid string) EventObject {
	return EventObject{Address: a, Namespace: namespace, Name: a.Pod, UID: uid}
}

// NodeEventObject names a node for its events.
func NodeEventObject(name string) EventObject {
	return EventObject{Address: Address{Kind: KindNode, Name: name}, Name: name}
}

// ContainerField is the Field of an event about one container: "spec.containers{app}".
func ContainerField(name string, init bool) string {
	if init {
		return "spec.initContainers{" + name + "}"
	}
	return "spec.containers{" + name + "}"
}

// ContainerOf reads what ContainerField wrote.
func ContainerOf(field string) (name string, init, ok bool) {
	for prefix, isInit := range map[string]bool{"spec.containers{": false, "spec.initContainers{": true} {
		if rest, found := strings.CutPrefix(field, prefix); found {
			name, ok = strings.CutSuffix(rest, "}")
			return name, isInit, ok
		}
	}
	return "", false, false
}

// How many events a state keeps, and how long (semantics.md 1.17: one hour). What is older than EventAge before the
// newest one goes; so what the last run has told stays readable until another one tells more.
const (
	EventLimit          = 2000
	EventLimitPerObject = 50 // so that one noisy object does not push out those of the others
	EventAge            = time.Hour
	EventMessageLimit   = 1024 // bytes
)

// Happened takes an event into the state. The same event as one that is there raises its count. An event whose number
// is not greater than those that are there has been taken before. The cost is bounded by the limits above.
func (s *State) Happened(e ObjectEvent) {
	if n := len(s.Events); n > 0 && e.Number <= s.Events[n-1].Number {
		return
	}
	e.Message = cut(e.Message, EventMessageLimit)
	e.Count = max(e.Count, 1)
	ofObject, oldest := 0, -1
	for i := range s.Events {
		old := &s.Events[i]
		if old.Object.Name != e.Object.Name || old.Object != e.Object {
			continue
		}
		if old.same(&e) {
			e.First, e.Count = old.First, old.Count+e.Count
			s.Events = slices.Delete(s.Events, i, i+1)
			oldest = -1
			break
		}
		if ofObject++; ofObject == 1 {
			oldest = i
		}
	}
	if oldest >= 0 && ofObject >= EventLimitPerObject {
		s.Events = slices.Delete(s.Events, oldest, oldest+1)
	}
	old := 0
	for old < len(s.Events) && (len(s.Events)-old >= EventLimit || s.Events[old].Last.Before(e.Last.Add(-EventAge))) {
		old++
	}
	s.Events = append(s.Events[old:], e) // moved only when the array behind it is full
}

// NextEvent is the number of the next event.
func (s *State) NextEvent() uint64 {
	if n := len(s.Events); n > 0 {
		return s.Events[n-1].Number + 1
	}
	return 1
}

// same reports whether two events of one object differ only in when they happened.
func (e *ObjectEvent) same(o *ObjectEvent) bool {
	return e.Reason == o.Reason && e.Message == o.Message && e.Field == o.Field && e.Type == o.Type && e.Source == o.Source && e.Node == o.Node && e.Waiting == o.Waiting
}

// cut shortens a text to at most limit bytes, not within a character.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const dots = "..."
	end := limit - len(dots)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + dots
}
