package statefile

import (
	"fmt"
	"strings"

	"berth.dev/berth/api"
)

// Recovery says what was found of a run that did not come to its end.
type Recovery struct {
	Lock     LockInfo   // who ran what; zero when there was nothing to recover
	Steps    int        // finished steps that were taken over from the journal
	InFlight []StepNote // steps that had begun and of whose end nothing is known
	Torn     bool       // the journal's end was half written: a record that nobody relied on yet
}

// IsZero reports whether the last run came to its end.
func (r Recovery) IsZero() bool { return r.Lock.ID == "" }

// Diagnostics is a warning for people; none when there was nothing to recover.
func (r Recovery) Diagnostics() api.Diagnostics {
	if r.IsZero() {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "The run of %s did not come to its end. Its finished steps were taken over from the journal: %d.", r.Lock, r.Steps)
	if n := len(r.InFlight); n > 0 {
		var names []string
		for _, s := range r.InFlight[:min(n, 5)] {
			names = append(names, s.String())
		}
		if n > 5 {
			names = append(names, fmt.Sprintf("and %d more", n-5))
		}
		fmt.Fprintf(&b, " In flight were: %s.", strings.Join(names, ", "))
	}
	if r.Torn {
		b.WriteString(" The last record was half written and does not count.")
	}
	b.WriteString(" The next plan finds on the hosts what became of the rest; nothing else is to be done.")
	return api.Diagnostics{{Severity: api.SeverityWarning, Summary: "Interrupted run was taken over", Detail: b.String()}}
}
