// Package mark keeps the file by which a host says to which cluster it belongs and what is the newest holder of the lock it
// has seen. Every script that changes a host's network begins by asking it, in the same round trip, so that neither
// another cluster nor a process that has lost its lock can change anything.
package mark

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

// Mark is the content of the file api.MarkFile.
type Mark struct {
	// Scripts read the first field, and the last two if there is a term, by their place: keep them there.
	Lineage string `json:"lineage"`
	Cluster string `json:"cluster"`
	Node    string `json:"node"`
	Term    uint64 `json:"term,omitempty"` // the greatest number of a watchdog that led
	Fence   uint64 `json:"fence"`
}

// Parse reads a mark. An empty text is no mark.
func Parse(text []byte) (Mark, error) {
	var m Mark
	if len(text) == 0 {
		return m, nil
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("read %s: %w", api.MarkFile, err)
	}
	return m, nil
}

// Statuses with which Check ends a script; they stand in its text too.
const (
	statusFenced    = 75
	statusForeign   = 76
	statusAbsent    = 77
	statusOutranked = 78
)

// Check is shell text to begin a script with. It needs the four arguments of Args in front of all others, and shifts them
// away. It ends the script where the host belongs to another cluster, or has seen a newer fencing number or a watchdog that led later. It takes
// the host's lock on file descriptor 9, in the folder for network files, which it makes unless $berth_mark_absent says
// otherwise: "ok" goes on without any mark and makes it, "done" ends the script with success where there is no mark and no folder,
// anything else fails.
const Check = `set -eu
umask 022
cd /
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
berth_mark=` + api.MarkFile + ` berth_net=` + api.NetworkDir + `
berth_lineage=$1 berth_fence=$2 berth_term=$3 berth_new_mark=$4
shift 4
berth_read_mark() {
	had= seen=0 led=0
	[ -s "$berth_mark" ] || return 0
	read -r line <"$berth_mark" || : # by the shell alone: this comes with every step
	case $line in '{"lineage":"'*'","'*'"fence":'[0-9]*'}') had=${line#'{"lineage":"'} had=${had%%'"'*} seen=${line##*'"fence":'} seen=${seen%'}'} ;; esac
	[ -n "$had" ] || { echo "$berth_mark is damaged: remove it if this host belongs to no other cluster" >&2; exit 1; }
	[ "$had" = "$berth_lineage" ] || { echo "$had" >&2; exit 76; }
	case $line in *'"term":'*) led=${line##*'"term":'} led=${led%%,*} ;; esac
	case $led in '' | *[!0-9]*) echo "$berth_mark is damaged: remove it if this host belongs to no other cluster" >&2; exit 1 ;; esac
	[ "${seen:=0}" -le "$berth_fence" ] || [ "$berth_fence" = 0 ] || exit 75
	[ "$led" -le "$berth_term" ] || [ "$berth_term" = 0 ] || { echo "$led" >&2; exit 78; }
}
berth_read_mark
if [ -z "$had" ]; then
	case ${berth_mark_absent:-fail} in
	ok) ;;
	done) [ -d "$berth_net" ] || exit 0 ;;
	*) exit 77 ;;
	esac
fi
[ -d "$berth_net" ] || mkdir -p "$berth_net"
exec 9>"$berth_net/lock"
flock -w 60 9 || { echo "another process has held $berth_net/lock for a minute" >&2; exit 1; }
berth_read_mark
# berth_write_mark: with the numbers seen, if one grew or nothing was there
berth_write_mark() {
	[ -z "$had" ] || [ "$seen" -lt "$berth_fence" ] || [ "$led" -lt "$berth_term" ] || return 0
	[ "$seen" -ge "$berth_fence" ] || seen=$berth_fence
	[ "$led" -ge "$berth_term" ] || led=$berth_term
	if [ "$led" = 0 ]; then
		printf '%s,"fence":%s}\n' "$berth_new_mark" "$seen" >"$berth_mark.new"
	else
		printf '%s,"term":%s,"fence":%s}\n' "$berth_new_mark" "$led" "$seen" >"$berth_mark.new"
	fi
	mv "$berth_mark.new" "$berth_mark"
}
`

// Args are the arguments that Check reads.
func Args(w *providers.Work) ([]string, error) {
	if w.Lineage == "" {
		return nil, errors.New("the cluster has no lineage yet")
	}
	text, err := json.Marshal(Mark{Lineage: w.Lineage, Cluster: w.Cluster.Name, Node: w.Step.Node})
	if err != nil {
		return nil, err
	}
	// The numbers come behind it: those of the host may be greater than ours.
	unnumbered := strings.TrimSuffix(string(text), `,"fence":0}`)
	return []string{w.Lineage, strconv.FormatUint(w.Fence, 10), strconv.FormatUint(w.Term, 10), unnumbered}, nil
}

// Err says what a status of Check means: an error that wraps providers.ErrFenced, or a diagnostic for people.
// Other errors are returned as they are.
func Err(h providers.Host, err error) error {
	exit, ok := errors.AsType[*providers.ExitError](err)
	if !ok {
		return err
	}
	d := api.Diagnostic{Severity: api.SeverityError, Node: h.Name()}
	switch exit.Status {
	case statusFenced:
		return fmt.Errorf("on %s: %w", h.Name(), providers.ErrFenced)
	case statusOutranked:
		return outranked(h, exit)
	case statusForeign:
		return foreign(h, exit)
	case statusAbsent:
		d.Summary = "Pod network is not set up"
		d.Detail = "The host does not carry this cluster's mark (" + api.MarkFile + "): its files were removed since the plan was made. Plan again."
	default:
		return err
	}
	return &api.DiagnosticsError{Diagnostics: api.Diagnostics{d}}
}

// outranked is the error of a host that has seen a watchdog which led later, whose number the script has printed.
func outranked(h providers.Host, exit *providers.ExitError) error {
	term, err := strconv.ParseUint(strings.TrimSpace(exit.Stderr), 10, 64)
	if err != nil {
		return fmt.Errorf("%s has seen another watchdog, of which it says %q", h.Name(), exit.Stderr)
	}
	return &providers.OutrankedError{Host: h.Name(), Term: term}
}

// foreign is the error of a host with another cluster's mark, which the script has printed.
func foreign(h providers.Host, exit *providers.ExitError) error {
	return &api.DiagnosticsError{Diagnostics: api.Diagnostics{{Severity: api.SeverityError, Node: h.Name(), Summary: "Host belongs to another cluster",
		Detail: fmt.Sprintf("The host carries the mark of the cluster with lineage %s in %s. A host belongs to one cluster. "+
			"Take it out of the other configuration and apply that, or remove the file if that cluster no longer exists.", exit.Stderr, api.MarkFile)}}}
}
