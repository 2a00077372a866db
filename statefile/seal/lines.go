package seal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/internal/frame"
)

// The journal is encrypted line by line. Every writer begins with a line that holds a key of its own, encrypted by the method; the
// lines behind it are AES-GCM under that key, each bound to its place, so that none can be left out, moved or put into another
// journal. Outside, lines have the journal's own form, so that a torn end is known without any key.

// keyLine is a writer's first.
type keyLine struct {
	Version string                     `json:"encryption_version"`
	Berth   string                     `json:"berth,omitempty"`
	Meta    map[string]json.RawMessage `json:"meta"`
	Key     []byte                     `json:"key"`
}

// sealedLine is each of the others.
type sealedLine struct {
	Sealed []byte `json:"sealed"`
}

// writer seals lines one after the other.
type writer struct {
	key []byte
	n   int
}

// begin returns the writer of a journal, and its first line.
func (s *Sealer) begin(ctx context.Context, berth string) (*writer, []byte, error) {
	key, err := random(32)
	if err != nil {
		return nil, nil, err
	}
	l := keyLine{Version: envelopeVersion, Berth: berth}
	if l.Key, l.Meta, err = s.primary.seal(ctx, key); err != nil {
		return nil, nil, fmt.Errorf("encrypt the journal: %w", err)
	}
	line, err := frame.Encode(l)
	return &writer{key: key}, line, err
}

func place(n int) []byte { return fmt.Appendf(nil, "berth journal line %d", n) }

func (w *writer) seal(line []byte) ([]byte, error) {
	sealed, err := sealGCM(w.key, line, place(w.n+1))
	if err != nil {
		return nil, err
	}
	out, err := frame.Encode(sealedLine{sealed})
	if err == nil {
		w.n++
	}
	return out, err
}

// lines returns the journal that data was made from. Bad lines come through as they are, for the reader to tell a torn end from damage.
func (s *Sealer) lines(ctx context.Context, data []byte) ([]byte, error) {
	var out bytes.Buffer
	var key []byte
	n, sealed := 0, false
	for number := 1; len(data) > 0; number++ {
		line, rest, whole := bytes.Cut(data, []byte{'\n'})
		raw := data[:len(data)-len(rest)]
		data = rest
		body, good := frame.Decode(line)
		switch {
		case !good || !whole:
			out.Write(raw)
		case statefile.IsEncrypted(body):
			var err error
			if key, err = s.keyOf(ctx, body); err != nil {
				return nil, err
			}
			n, sealed = 0, true
		case isSealedLine(body):
			plain, err := openLine(key, body, n+1)
			if err != nil {
				return nil, statefile.DamagedLine(number, err.Error())
			}
			n++
			out.Write(plain)
		case sealed:
			return nil, statefile.DamagedLine(number, "it is not encrypted, and the lines before it are")
		case s.takesPlain():
			out.Write(raw)
		default:
			return nil, &PlainError{"journal"}
		}
	}
	return out.Bytes(), nil
}

func isSealedLine(body []byte) bool { return bytes.HasPrefix(body, []byte(`{"sealed":`)) }

func openLine(key, body []byte, n int) ([]byte, error) {
	var l sealedLine
	if key == nil {
		return nil, errors.New("it is encrypted, and the line with the key is missing")
	}
	if err := json.Unmarshal(body, &l); err != nil {
		return nil, err
	}
	plain, err := openGCM(key, l.Sealed, place(n))
	if err != nil {
		return nil, fmt.Errorf("it does not belong here: it was changed, or lines before it are missing")
	}
	return plain, nil
}

func (s *Sealer) keyOf(ctx context.Context, body []byte) ([]byte, error) {
	var l keyLine
	if err := json.Unmarshal(body, &l); err != nil {
		return nil, statefile.DamagedLine(1, err.Error())
	}
	if l.Version != envelopeVersion {
		return nil, fmt.Errorf("the journal is encrypted in format %q, and this Berth reads up to %q: use the Berth that wrote it (%s)", l.Version, envelopeVersion, l.Berth)
	}
	key, _, err := s.try(ctx, &envelope{Meta: l.Meta, Data: l.Key})
	return key, err
}
