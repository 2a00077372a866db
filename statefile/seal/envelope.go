package seal

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"berth.dev/berth/statefile"
)

// envelopeVersion is the format of encrypted documents, and of journals: OpenTofu's number and members, and a checksum, which
// tells damage from a wrong key.
const envelopeVersion = "v0"

// envelope is an encrypted document. Serial and lineage stand beside it, for servers that ask for them and for people.
type envelope struct {
	Version  string                     `json:"encryption_version"` // first: by it, a document is known to be encrypted
	Berth    string                     `json:"berth,omitempty"`
	Serial   uint64                     `json:"serial,omitempty"`
	Lineage  string                     `json:"lineage,omitempty"`
	Meta     map[string]json.RawMessage `json:"meta"`
	Checksum string                     `json:"checksum"` // SHA-256 of the encrypted bytes
	Data     []byte                     `json:"encrypted_data"`
}

// head is what stands in the clear.
type head struct {
	Berth   string `json:"berth"`
	Serial  uint64 `json:"serial"`
	Lineage string `json:"lineage"`
}

func checksumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Seal returns the document to write in the place of data.
func (s *Sealer) Seal(ctx context.Context, data []byte) ([]byte, error) {
	if !s.Seals() {
		return data, nil
	}
	var h head
	_ = json.Unmarshal(data, &h) // other data has no head
	e := envelope{Version: envelopeVersion, Berth: h.Berth, Serial: h.Serial, Lineage: h.Lineage}
	var err error
	if e.Data, e.Meta, err = s.primary.seal(ctx, data); err != nil {
		return nil, fmt.Errorf("encrypt the %s: %w", s.what, err)
	}
	e.Checksum = checksumOf(e.Data)
	out, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(out, '\n'), nil
}

// IsSealed reports whether data is an encrypted document, whole or not.
func IsSealed(data []byte) bool { return statefile.IsEncrypted(data) }

// Open returns the document that data was made from, and whether that was not written as the next one will be: with another method, or
// not encrypted. Data that is neither encrypted nor a document is returned as it is, for the reader to say what is wrong with it.
func (s *Sealer) Open(ctx context.Context, data []byte) (out []byte, other bool, err error) {
	if !IsSealed(data) {
		if s == nil || s.takesPlain() || !json.Valid(data) {
			return data, s.Seals(), nil
		}
		return nil, false, &PlainError{s.what}
	}
	if s == nil {
		return nil, false, statefile.ErrEncrypted
	}
	var e envelope
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, false, statefile.Damaged(fmt.Sprintf("it is encrypted, and cut off or overwritten (%v)", err))
	}
	switch {
	case e.Version != envelopeVersion:
		return nil, false, fmt.Errorf("the %s is encrypted in format %q, and this Berth reads up to %q: use the Berth that wrote it (%s)", s.what, e.Version, envelopeVersion, e.Berth)
	case e.Checksum != checksumOf(e.Data):
		return nil, false, statefile.Damaged("it is encrypted, and its checksum is wrong: it was edited or partly overwritten")
	}
	if out, other, err = s.try(ctx, &e); err != nil {
		return nil, false, err
	}
	var h head
	_ = json.Unmarshal(out, &h)
	if h.Serial != e.Serial || h.Lineage != e.Lineage {
		return nil, false, statefile.Damaged(fmt.Sprintf("it says serial %d and lineage %q, but what is encrypted in it has serial %d and lineage %q", e.Serial, e.Lineage, h.Serial, h.Lineage))
	}
	return out, other || !s.Seals(), nil
}
