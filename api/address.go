package api

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"
)

// Address names one object of a configuration, or one pod of it.
//
//	deployment.web            the object of workload "deployment" "web"
//	deployment.web["eu"]      an instance made by for_each
//	deployment.web[0]         an instance made by count
//	module.shop.service.web   an object in a module
//	deployment.web/web-5d-x2  one pod
//	node.a1                   a node of the inventory
//
// The zero Address names nothing.
type Address struct {
	Module string // "" in the root module, else "module.shop" or `module.shop["x"].module.y`
	Kind   string // a kind of the table in kinds.go
	Name   string // the block's label
	Key    string // the instance key as written, with its brackets: `["eu"]`, `[0]`, or ""
	Pod    string // the pod's name, or "" for the object itself
}

// String returns the address as users write it.
func (a Address) String() string {
	if a.Kind == "" {
		return ""
	}
	var b strings.Builder
	if a.Module != "" {
		b.WriteString(a.Module)
		b.WriteByte('.')
	}
	b.WriteString(a.Kind)
	b.WriteByte('.')
	b.WriteString(a.Name)
	b.WriteString(a.Key)
	if a.Pod != "" {
		b.WriteByte('/')
		b.WriteString(a.Pod)
	}
	return b.String()
}

// IsZero reports whether a names nothing.
func (a Address) IsZero() bool { return a == Address{} }

// Owner returns the address of the object that a pod belongs to; of an object, the object itself.
func (a Address) Owner() Address { a.Pod = ""; return a }

// WithPod returns the address of one pod of the object a.
func (a Address) WithPod(name string) Address { a.Pod = name; return a }

// Base returns the address without its instance key and pod: what a -target without key means.
func (a Address) Base() Address { a.Key, a.Pod = "", ""; return a }

// Contains reports whether b is a, an instance of a, a pod of a, or lies in the module that a names.
func (a Address) Contains(b Address) bool {
	if a == b {
		return true
	}
	if a.Pod != "" {
		return false
	}
	if a.Key == "" {
		return a == b.Base() || a == b.Owner()
	}
	return a == b.Owner()
}

// Compare orders addresses by module, kind, name, key and pod.
func (a Address) Compare(b Address) int {
	return cmp.Or(
		strings.Compare(a.Module, b.Module), strings.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name),
		compareKeys(a.Key, b.Key), strings.Compare(a.Pod, b.Pod))
}

// compareKeys puts [2] before [10] and otherwise compares bytes.
func compareKeys(a, b string) int {
	if len(a) > 1 && len(b) > 1 && a[1] != '"' && b[1] != '"' {
		return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
	}
	return strings.Compare(a, b)
}

var addressPattern = regexp.MustCompile(
	`^(?:(module\.[^/]+)\.)?([a-z_]+)\.([A-Za-z0-9_-][A-Za-z0-9_.-]*?)(\[(?:\d+|"(?:[^"\\]|\\.)*")\])?(?:/([a-z0-9.-]+))?$`)

// ParseAddress reads an address as String writes it.
func ParseAddress(s string) (Address, error) {
	m := addressPattern.FindStringSubmatch(s)
	if m == nil {
		return Address{}, fmt.Errorf("%q is not an address: write it as deployment.web, deployment.web[\"eu\"], service.web or node.a1", s)
	}
	a := Address{Module: m[1], Kind: m[2], Name: m[3], Key: m[4], Pod: m[5]}
	if a.Kind != KindNode {
		if _, ok := KindByName(a.Kind); !ok {
			return Address{}, fmt.Errorf("%q is not an address: %q is no kind of object", s, a.Kind)
		}
	}
	return a, nil
}

// MarshalText writes the address as String does.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads the address as ParseAddress does; empty text is the zero Address.
func (a *Address) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*a = Address{}
		return nil
	}
	v, err := ParseAddress(string(b))
	*a = v
	return err
}
