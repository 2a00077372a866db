package statefile

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"berth.dev/berth/api"
)

// newestVersion is the format that is written. Versions:
//
//	1  2026-11  the first
//
// What every version keeps, so that older programs can refuse it by name: the document is one JSON object,
// "version" is its first member and an integer, "berth" names the program that wrote it, "lineage" and
// "serial" stand at the top. A Berth that writes something which an older one would drop writes a higher
// version.
const newestVersion = 1

// version1 is the document: a header and the members of api.State.
type version1 struct {
	Version  int    `json:"version"`
	Berth    string `json:"berth"`
	Checksum string `json:"checksum"`
	Fence    uint64 `json:"fence"`
	*api.State
}

// checksumKey begins the line that holds the checksum: SHA-256 over the whole document with zeros in its place.
const checksumKey = "\n  \"checksum\": \"sha256:"

func encodeVersion1(s *api.State, fence uint64, berth string) ([]byte, error) {
	doc := version1{Version: 1, Berth: berth, Checksum: "sha256:" + zeros(), Fence: fence, State: s}
	data, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the state: %w", err)
	}
	data = append(data, '\n')
	at, ok := checksumAt(data)
	if !ok {
		return nil, fmt.Errorf("encode the state: no place for the checksum after version %q", berth)
	}
	sum := sha256.Sum256(data)
	hex.Encode(data[at:], sum[:])
	return data, nil
}

func decodeVersion1(data []byte) (*api.State, uint64, error) {
	at, ok := checksumAt(data)
	if !ok {
		return nil, 0, &DamagedError{reason: "it has no checksum"}
	}
	h := sha256.New()
	h.Write(data[:at])
	h.Write([]byte(zeros()))
	h.Write(data[at+hex.EncodedLen(sha256.Size):])
	good := hex.EncodeToString(h.Sum(nil)) == string(data[at:at+hex.EncodedLen(sha256.Size)])
	doc := version1{State: &api.State{}}
	err := json.Unmarshal(data, &doc)
	switch {
	case !good && err != nil:
		return nil, 0, &DamagedError{reason: fmt.Sprintf("its checksum is wrong and it is not JSON (%v): it was cut off or overwritten", err)}
	case !good:
		return nil, 0, &DamagedError{reason: "its checksum is wrong: it was edited or partly overwritten"}
	case err != nil:
		return nil, 0, &DamagedError{reason: err.Error()}
	}
	if doc.Lineage == "" || doc.Serial == 0 {
		return nil, 0, &DamagedError{reason: "it has no lineage or no serial"}
	}
	return doc.State, doc.Fence, nil
}

// checksumAt returns where the checksum's digits begin. They stand near the top, before anything that a user
// has written.
func checksumAt(data []byte) (int, bool) {
	i := bytes.Index(data[:min(len(data), 1024)], []byte(checksumKey))
	if i < 0 {
		return 0, false
	}
	at := i + len(checksumKey)
	return at, at+hex.EncodedLen(sha256.Size) <= len(data)
}

func zeros() string { return strings.Repeat("0", hex.EncodedLen(sha256.Size)) }
