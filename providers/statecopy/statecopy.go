// Package statecopy keeps a copy of the state on hosts, from which `berth state rebuild` makes a lost one anew. It knows neither what is in
// the copy nor whether it is encrypted: whoever hands it over has made it fit to lie on a host. It is no provider of steps: a copy is written
// when the state is, after the last step. Start with [Put].
package statecopy

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/mark"
)

// most bounds a copy, in bytes, packed and unpacked.
const most = 1 << 30

// Copy is what a host keeps.
type Copy struct {
	Lineage string
	Serial  uint64
	Fence   uint64
	Data    []byte
}

// Packed is a copy as it travels and lies on hosts, made once for all of them: a line that says what it is, and gzip of the data.
type Packed struct{ text []byte }

// magic begins the first line: the format and its version, then lineage, serial, fence, and the SHA-256 of the rest of the file.
const magic = "berth-copy 1 "

// Pack makes the copy fit to travel.
func Pack(c Copy) (Packed, error) {
	var body bytes.Buffer
	z := gzip.NewWriter(&body)
	_, err := z.Write(c.Data)
	if err = errors.Join(err, z.Close()); err != nil {
		return Packed{}, fmt.Errorf("pack a copy of the state: %w", err)
	}
	if body.Len() > most {
		return Packed{}, fmt.Errorf("a copy of the state would have %d bytes: more than %d are kept on no host", body.Len(), most)
	}
	sum := sha256.Sum256(body.Bytes())
	head := fmt.Sprintf("%s%s %d %d %s\n", magic, c.Lineage, c.Serial, c.Fence, hex.EncodeToString(sum[:]))
	return Packed{append([]byte(head), body.Bytes()...)}, nil
}

// ErrDamaged is returned for a copy that cannot be believed.
var ErrDamaged = errors.New("the copy is damaged")

// Unpack reads a copy as it lies on a host.
func Unpack(text []byte) (Copy, error) {
	head, body, whole := bytes.Cut(text, []byte{'\n'})
	rest, ours := strings.CutPrefix(string(head), magic)
	words := strings.Fields(rest)
	if !whole || !ours || len(words) != 4 {
		return Copy{}, fmt.Errorf("%w: it does not begin as one", ErrDamaged)
	}
	c := Copy{Lineage: words[0]}
	var err, errFence error
	c.Serial, err = strconv.ParseUint(words[1], 10, 64)
	c.Fence, errFence = strconv.ParseUint(words[2], 10, 64)
	if err = errors.Join(err, errFence); err != nil {
		return Copy{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != words[3] {
		return Copy{}, fmt.Errorf("%w: its checksum is wrong", ErrDamaged)
	}
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return Copy{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	c.Data, err = io.ReadAll(io.LimitReader(z, most+1))
	if err != nil || len(c.Data) > most {
		return Copy{}, fmt.Errorf("%w: it cannot be unpacked", ErrDamaged)
	}
	return c, nil
}

// ErrNoMember is returned by [Put] for a host that no cluster's mark is on.
var ErrNoMember = errors.New("the host has no mark of a cluster, so it takes no copy")

// unmarked is the status with which putScript ends on such a host.
const unmarked = 4

// Put keeps a copy on a host, in the place of the one before, in one round trip. A host that another lineage's mark is on, or none
// ([ErrNoMember]), or that has seen a newer holder of the lock, takes none, and the copy before stays.
func Put(ctx context.Context, h providers.Host, w *providers.Work, p Packed) error {
	err := run(ctx, h, w, "keep a copy of the state", providers.Command{Script: putScript, Args: []string{api.CopyFile, api.MarkFile, strconv.Itoa(len(p.text))}, Stdin: bytes.NewReader(p.text)})
	if exit, ok := errors.AsType[*providers.ExitError](err); ok && exit.Status == unmarked {
		return fmt.Errorf("keep a copy of the state on %s: %w", h.Name(), ErrNoMember)
	}
	return err
}

// Drop removes the copy that a host keeps, if there is one.
func Drop(ctx context.Context, h providers.Host, w *providers.Work) error {
	return run(ctx, h, w, "remove the copy of the state", providers.Command{Script: dropScript, Args: []string{api.CopyFile}})
}

func run(ctx context.Context, h providers.Host, w *providers.Work, what string, c providers.Command) error {
	ctx, guarded, err := mark.Guard(ctx, h, w)
	if err == nil {
		_, err = guarded.Run(ctx, c)
	}
	if err != nil {
		return fmt.Errorf("%s on %s: %w", what, h.Name(), err)
	}
	return nil
}

const (
	// What was there stays whole until the new one is, and half of a new one does not stay. A host without our mark is no member any more.
	putScript = `set -eu
umask 077
[ -s "$2" ] || exit 4
trap 'rm -f -- "$1.new"' EXIT
cat >"$1.new"
[ "$(stat -c %s -- "$1.new")" = "$3" ] || { echo "only a part of the copy has arrived" >&2; exit 1; }
sync "$1.new"
mv -f -- "$1.new" "$1"
`
	dropScript = `rm -f -- "$1" "$1.new"
`
)

// Held is what a host keeps of the cluster besides its pods.
type Held struct {
	Copy    *Copy // nil when it keeps none
	Damaged error // the copy that it keeps cannot be believed
	// PodCIDR and VTEPMAC are the node's share of the pod network, "" when the host has none.
	PodCIDR, VTEPMAC string
	// SecondPodCIDR is that of the cluster's second family.
	SecondPodCIDR string
}

// Look asks a host what it keeps, in one round trip. It changes nothing.
func Look(ctx context.Context, h providers.Host) (*Held, error) {
	out, err := h.Run(ctx, providers.Command{Script: lookScript, Args: []string{api.CopyFile, api.NetworkDir + "/node"}})
	if err != nil {
		return nil, fmt.Errorf("look for what %s keeps of the cluster: %w", h.Name(), err)
	}
	held := &Held{}
	for line := range strings.Lines(string(out.Stdout)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch key {
		case "pod_cidr":
			held.PodCIDR = value
		case "second_pod_cidr":
			held.SecondPodCIDR = value
		case "mac":
			held.VTEPMAC = value
		case "copy":
			text, err := base64.StdEncoding.DecodeString(value)
			if err != nil {
				return nil, fmt.Errorf("read the copy that %s keeps: %w", h.Name(), err)
			}
			c, err := Unpack(text)
			if err != nil {
				held.Damaged = err
				continue
			}
			held.Copy = &c
		}
	}
	return held, nil
}

const lookScript = `if [ -r "$2" ]; then grep -E '^(pod_cidr|second_pod_cidr|mac) ' "$2"; fi
if [ -s "$1" ]; then
	printf 'copy '
	base64 -w 0 "$1"
	echo
fi
`
