package api

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Image is an image built on the workstation by an image block: files on top of a base, no daemon, no
// registry. The same inputs give the same digest.
type Image struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              ImageSpec `json:"spec"`
	// Ref is the full reference by digest that pods use: "berth.local/<name>@sha256:…". Set when the image was built.
	Ref string `json:"ref,omitempty"`
}

// ImageSpec says what goes into an image.
type ImageSpec struct {
	Base       string            `json:"base"`                 // "scratch" or a reference
	Platform   string            `json:"platform,omitempty"`   // "linux/amd64"; the default
	Entrypoint []string          `json:"entrypoint,omitempty"` // replaces the base's
	Cmd        []string          `json:"cmd,omitempty"`
	Env        map[string]string `json:"env,omitempty"` // added to the base's
	User       string            `json:"user,omitempty"`
	WorkingDir string            `json:"workingDir,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	StopSignal string            `json:"stopSignal,omitempty"`
	Copy       []ImageCopy       `json:"copy,omitempty"` // one layer each, in order
}

// ImageCopy puts a file or a directory tree of the workstation into the image: copy "/shop" { from = "./bin/shop" }.
type ImageCopy struct {
	Name    string   `json:"name"`              // the path in the image; the block's label
	From    string   `json:"from"`              // absolute after loading; relative ones are relative to the configuration
	Mode    string   `json:"mode,omitempty"`    // octal, for files; default: the source's permission bits
	Owner   string   `json:"owner,omitempty"`   // "uid:gid"; default "0:0"
	Exclude []string `json:"exclude,omitempty"` // doublestar patterns relative to From
}

// Volume is storage that outlives pods: without a source, a directory that Berth makes on the node of the first
// pod that uses it and that pins later pods there. Pods mount it as a persistent volume claim of the same
// name and namespace (semantics.md 6.3: claim and volume in one).
type Volume struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              VolumeSpec `json:"spec"`
}

// VolumeSpec says how large the volume is meant to be and what becomes of its data.
type VolumeSpec struct {
	Capacity resource.Quantity `json:"capacity,omitempty"`
	// Node pins the volume to a node by name; "" lets the first pod's placement decide.
	Node string `json:"node,omitempty"`
	// ReclaimPolicy says what happens to the data when the volume is destroyed: "Retain" (default) keeps
	// the directory on the node, "Delete" removes it.
	ReclaimPolicy string `json:"reclaimPolicy,omitempty"`
}
