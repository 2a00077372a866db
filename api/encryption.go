package api

import "strings"

// Encryption says how state and plan files are encrypted where they lie: the encryption block. It names where keys come from
// and never holds one.
type Encryption struct {
	Keys    []EncryptionPart // key_provider blocks
	Methods []EncryptionPart // method blocks
	State   EncryptionTarget
	Plan    EncryptionTarget
	Range   Range // of the block
}

// EncryptionPart is a key_provider or a method block.
type EncryptionPart struct {
	Type, Name string
	Attrs      map[string][]string // literals; a scalar is a list of one
	Keys       string              // what a method refers to: "pbkdf2.team"; "" without
	Range      Range
}

// Ref returns what others refer to the part by: "pbkdf2.team".
func (p EncryptionPart) Ref() string { return p.Type + "." + p.Name }

// EncryptionTarget says what is written with which method.
type EncryptionTarget struct {
	Method string // "aes_gcm.team"; "" when there is no such block
	// Enforced refuses to write anything unencrypted.
	Enforced bool
	// Fallback are the methods that what is there may have been written with, tried in this order.
	Fallback []string
	Range    Range
}

// Retention bounds what is kept of the past: the retention block.
type Retention struct {
	Applies       int `json:"applies"`                   // how many applies the history has; at least 1
	AppliesMaxAge int `json:"applies_max_age,omitempty"` // seconds; 0 for no limit
	Backups       int `json:"backups"`                   // how many documents that were replaced stay; at least 1
	BackupsMaxAge int `json:"backups_max_age,omitempty"` // seconds; 0 for no limit. The newest stays whatever its age
}

// DefaultRetention is what is kept without a retention block.
var DefaultRetention = Retention{Applies: 50, Backups: 5}

// MetaRef is how key metadata is named in an encrypted document, as OpenTofu names it.
func (p EncryptionPart) MetaRef() string {
	if alias := p.Attrs["encrypted_metadata_alias"]; len(alias) == 1 && strings.TrimSpace(alias[0]) != "" {
		return alias[0]
	}
	return "key_provider." + p.Ref()
}
