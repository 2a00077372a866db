package api

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Value is what an object holds: a pointer to a type of k8s.io/api, or to one of our own ([Image], [Volume]).
// The dynamic type is the one that the kind's New in kinds.go makes.
type Value interface {
	metav1.Object
}

// Object is one desired or applied object: the Kubernetes value with its address, its place in the
// configuration and what it depends on.
//
// An Object is not changed after it was made; a changed one is a new Object. Rooms share pointers to them.
type Object struct {
	Address Address
	Value   Value

	// DependsOn holds the addresses of objects that must be there before this one and leave after it:
	// explicit depends_on and every reference in an expression. Sorted, without duplicates.
	DependsOn []Address
	// Sensitive holds the JSON paths (see [Path]) of attributes that must never be shown. Sorted.
	Sensitive []string
	// PreventDestroy refuses any plan that would destroy the object (lifecycle.prevent_destroy).
	PreventDestroy bool
	// NoWait has apply start the job and go on without waiting for its end (lifecycle.wait = false).
	NoWait bool
	// OnConfigChange says what becomes of the pods of a workload when config maps and secrets that it uses change.
	OnConfigChange ConfigChange
	// AtMostOne says that no two pods of one identity of the workload may ever run: its host stops a pod that no watchdog vouches for.
	AtMostOne bool
	// Owner is the object that made this one and keeps it, as a stateful set its claims; zero for those of a configuration.
	Owner Address
	// CreatedAt is when the object was first applied; nil before. The executor sets it.
	CreatedAt *time.Time
	// Range is where the object's block starts. Ranges maps JSON paths without indices of its attributes
	// and blocks to their places. Neither is serialised.
	Range  Range
	Ranges map[string]Range
}

// ConfigChange is what a change of the content of config maps and secrets does to the pods of a workload that uses them.
type ConfigChange string

// The ways.
const (
	ConfigRolls   ConfigChange = ""       // new pods, in waves; written as "roll"
	ConfigUpdates ConfigChange = "update" // the files of running pods are rewritten; their variables stay
)

// String returns the way as the language writes it: "roll" or "update".
func (c ConfigChange) String() string { return cmp.Or(string(c), "roll") }

// Kind returns the object's row of the kinds table.
func (o *Object) Kind() Kind { k, _ := KindByName(o.Address.Kind); return k }

// Name returns the Kubernetes name.
func (o *Object) Name() string { return o.Value.GetName() }

// Namespace returns the namespace, "" for kinds without one.
func (o *Object) Namespace() string { return o.Value.GetNamespace() }

// RangeOf returns the place of the attribute at a JSON path, or that of the nearest enclosing block.
func (o *Object) RangeOf(path string) Range {
	for p := path; p != ""; p = parentPath(p) {
		if r, ok := o.Ranges[p]; ok {
			return r
		}
	}
	return o.Range
}

type objectJSON struct {
	Address        Address         `json:"address"`
	DependsOn      []Address       `json:"depends_on,omitempty"`
	Sensitive      []string        `json:"sensitive,omitempty"`
	PreventDestroy bool            `json:"prevent_destroy,omitempty"`
	NoWait         bool            `json:"no_wait,omitempty"`
	OnConfigChange ConfigChange    `json:"on_config_change,omitempty"`
	AtMostOne      bool            `json:"at_most_one,omitempty"`
	Owner          Address         `json:"owner,omitzero"`
	CreatedAt      *time.Time      `json:"created_at,omitempty"`
	Value          json.RawMessage `json:"value"`
}

// MarshalJSON writes the address, the links and the value. Ranges are left out: they are facts about
// the configuration's text, not about the object.
func (o *Object) MarshalJSON() ([]byte, error) {
	v, err := json.Marshal(o.Value)
	if err != nil {
		return nil, fmt.Errorf("marshal %s: %w", o.Address, err)
	}
	return json.Marshal(objectJSON{o.Address, o.DependsOn, o.Sensitive, o.PreventDestroy, o.NoWait, o.OnConfigChange, o.AtMostOne, o.Owner, o.CreatedAt, v})
}

// UnmarshalJSON reads what MarshalJSON wrote, making the value by the address's kind.
func (o *Object) UnmarshalJSON(b []byte) error {
	var j objectJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	kind, ok := KindByName(j.Address.Kind)
	if !ok {
		return fmt.Errorf("object %s: unknown kind %q", j.Address, j.Address.Kind)
	}
	v := kind.New()
	if err := json.Unmarshal(j.Value, v); err != nil {
		return fmt.Errorf("object %s: %w", j.Address, err)
	}
	*o = Object{Address: j.Address, Value: v, DependsOn: j.DependsOn, Sensitive: j.Sensitive, PreventDestroy: j.PreventDestroy, NoWait: j.NoWait, OnConfigChange: j.OnConfigChange, AtMostOne: j.AtMostOne, Owner: j.Owner, CreatedAt: j.CreatedAt}
	return nil
}
