package view

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"berth.dev/berth/api"
)

// opWords say what a step does while it goes on and when it is done.
var opWords = map[api.Op]struct{ doing, done string }{
	api.OpNodeSet:        {"Setting up the pod network", "Pod network is up"},
	api.OpNodeKey:        {"Making a key", "Key is there"},
	api.OpNodeRemove:     {"Cleaning up", "Clean"},
	api.OpImageEnsure:    {"Bringing the image", "Image is there"},
	api.OpImageRemove:    {"Removing images", "Images removed"},
	api.OpVolumeEnsure:   {"Creating the volume", "Volume is there"},
	api.OpVolumeRemove:   {"Destroying the volume's data", "Volume destroyed"},
	api.OpPodEnsure:      {"Creating", "Created"},
	api.OpPodReady:       {"Waiting until ready", "Ready"},
	api.OpPodFiles:       {"Updating files", "Files updated"},
	api.OpPodRemove:      {"Stopping", "Stopped and removed"},
	api.OpJobRun:         {"Running the job", "Job is done"},
	api.OpServiceSet:     {"Writing rules", "Rules are in force"},
	api.OpServiceRemove:  {"Removing rules", "Rules removed"},
	api.OpDNSSet:         {"Writing DNS records", "DNS records are written"},
	api.OpPause:          {"Waiting", "Waited"},
	api.OpAnalyseCommand: {"Analysing", "Found fit"},
	api.OpAnalyseHTTP:    {"Analysing", "Found fit"},
	api.OpFence:          {"Running the fencing command", "Fenced"},
	api.OpRecord:         {"Recording", "Done"},
	api.OpForget:         {"Forgetting", "Gone"},
}

// quiet are the operations that change nothing on a host and are not worth a line.
var quiet = map[api.Op]bool{api.OpRecord: true, api.OpForget: true}

// brief are the operations that end at once, so that their start is not worth a line.
var brief = map[api.Op]bool{api.OpServiceSet: true, api.OpServiceRemove: true, api.OpVolumeEnsure: true, api.OpImageRemove: true, api.OpPodFiles: true, api.OpDNSSet: true, api.OpNodeKey: true}

// patience is how long a step may take before its reports are shown. The executor repeats the last report of a
// step that goes on.
const patience = 2 * time.Second

// Progress paints the events of an apply, one line each; it is safe for concurrent use.
type Progress struct {
	s       Stream
	mu      sync.Mutex
	skipped map[string]bool // the lines that were written: a pod is skipped once, not once for each of its steps
}

// NewProgress returns a painter of events.
func NewProgress(s Stream) *Progress { return &Progress{s: s, skipped: map[string]bool{}} }

// Event paints one event.
func (p *Progress) Event(e api.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.Type == api.EventStopping {
		p.s.Println("\n" + p.s.paint(yellow, "Interrupt received.") + "\n" + p.s.wrap("Finishing the running steps and saving. Interrupt again to stop at once; the next apply goes on from there.", "") + "\n")
		return
	}
	if e.Step == nil {
		return
	}
	if e.Step.Op == api.OpForget && e.Step.Address.Pod != "" && e.Type == api.EventDone && e.Step.Reason != "" {
		p.s.Printf("%s Given up: %s\n", p.s.paint(bold, subject(e.Step)+":"), e.Step.Reason)
		return
	}
	if quiet[e.Step.Op] && e.Type != api.EventFailed {
		return
	}
	words := opWords[e.Step.Op]
	switch subject := p.s.paint(bold, subject(e.Step)+":"); e.Type {
	case api.EventStart:
		if !brief[e.Step.Op] {
			p.s.Printf("%s %s...\n", subject, words.doing)
		}
	case api.EventProgress:
		if e.Elapsed >= patience {
			p.s.Printf("%s %s [%s elapsed]\n", subject, report(e, words.doing), elapsed(e.Elapsed))
		}
	case api.EventDone:
		p.s.Printf("%s %s after %s\n", subject, words.done, elapsed(e.Elapsed))
	case api.EventFailed:
		p.s.Printf("%s %s after %s: %s\n", subject, p.s.paint(red, "Failed"), elapsed(e.Elapsed), summary(e.Err))
	case api.EventSkipped:
		line := fmt.Sprintf("%s %s%s\n", subject, p.s.paint(yellow, "Skipped"), skipped(e.Message))
		if !p.skipped[line] {
			p.skipped[line] = true
			p.s.Printf("%s", line)
		}
	}
}

// report is what a step says of itself, or that it goes on.
func report(e api.Event, doing string) string {
	if e.Message == "" {
		return "Still " + lowerFirst(doing) + "..."
	}
	return upperFirst(e.Message)
}

// summary is an error in one line; all of it is shown when the apply has ended.
func summary(err error) string {
	const none = ""
	if ds := api.DiagnosticsOf(err, none); len(ds) > 0 && ds[0].Summary != none {
		return ds[0].Summary
	}
	line, _, _ := strings.Cut(fmt.Sprint(err), "\n")
	return line
}

func skipped(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

// subject names a step for people: its address, or the image that it brings, and its node.
func subject(st *api.Step) string {
	if st.Op == api.OpImageEnsure && st.Image != nil {
		return "image " + ShortImage(st.Image.Ref) + " on " + st.Node
	}
	if st.Address.Kind == "" {
		return "state" // the cluster's settings, digests, outputs
	}
	if st.Node == "" || st.Address.Kind == api.KindNode {
		return st.Address.String()
	}
	return st.Address.String() + " on " + st.Node
}

// ShortImage cuts a digest to its first twelve digits.
func ShortImage(ref string) string {
	if base, digest, ok := strings.Cut(ref, "@sha256:"); ok {
		return base + "@" + digest[:min(12, len(digest))]
	}
	return ref
}

// elapsed rounds to what people read: 0.12s, 3.4s, 1m20s.
func elapsed(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return "0s"
	case d < time.Second:
		return fmt.Sprintf("%.2fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
