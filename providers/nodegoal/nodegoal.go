// Package nodegoal keeps on a node what the node itself needs to keep its pods running while nobody else can reach it: its part of the state, for
// root alone, and a file whose time says when a watchdog was last there. Both are only kept where somebody has installed a local watchdog.
package nodegoal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/mark"
)

// Where they lie.
const (
	Dir  = api.LocalDir // its being there means that there is a local watchdog
	File = Dir + "/goal.state"
	Seen = "/run/berth-watched" // gone after a reboot
)

// Look tells the node that a watchdog is there, and returns whether the node wants to have its part of the state, and the sum of what it has; "" for nothing.
func Look(ctx context.Context, h providers.Host) (wanted bool, sum string, err error) {
	out, err := h.Run(ctx, providers.Command{Script: lookScript})
	if err != nil {
		return false, "", fmt.Errorf("look for a local watchdog on %s: %w", h.Name(), err)
	}
	f := strings.Fields(string(out.Stdout))
	if len(f) == 0 {
		return false, "", nil
	}
	return true, strings.TrimPrefix(f[0], "sum:"), nil
}

const lookScript = `[ -d ` + Dir + ` ] || exit 0
: >` + Seen + `
if [ -e ` + File + ` ]; then printf sum: && sha256sum <` + File + `; else echo sum:; fi
`

// Sum is what Look returns of a node that has the data.
func Sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// Put has a node keep its part of the state, at once.
func Put(ctx context.Context, h providers.Host, w *providers.Work, data []byte) error {
	ctx, h, err := mark.Guard(ctx, h, w)
	if err != nil {
		return err
	}
	if _, err := h.Run(ctx, providers.Command{Script: putScript, Stdin: bytes.NewReader(data)}); err != nil {
		return fmt.Errorf("keep its part of the state on %s: %w", h.Name(), err)
	}
	return nil
}

const putScript = `set -eu
umask 077
t=$(mktemp ` + Dir + `/new.XXXXXXXXXX)
trap 'rm -f "$t"' EXIT
cat >"$t"
sync "$t" 2>/dev/null || sync
mv -- "$t" ` + File + `
`
