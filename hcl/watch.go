package hcl

import (
	"net/url"
	"strings"
	"time"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/gocty"
	"k8s.io/apimachinery/pkg/util/validation"

	"berth.dev/berth/api"
	"berth.dev/berth/hcl/schema"
)

// Notify is one notify block: who is told of what by a watchdog. Just one of Webhook, WebhookFile and Command is set.
type Notify struct {
	Name string
	// Events are reasons of events ("NodeNotReady"), "Warning" for all warnings, "*" for everything.
	Events []string
	// Webhook is a URL that gets each event as a JSON document by POST; WebhookFile a file that holds such a URL, for one that is a secret.
	Webhook, WebhookFile string
	// Command is a program with its arguments, without a shell, that gets the document on standard input.
	Command []string
	Timeout time.Duration // of one try; 1 s to 60 s
	Retries int           // more tries after one that failed; 0 to 10
	Range   api.Range
}

// What counts where a notify block says nothing.
const (
	defaultNotifyTimeout = 10 * time.Second
	defaultNotifyRetries = 4
	mostNotifyTimeout    = time.Minute
	mostNotifyRetries    = 10
)

// Notify returns the notify blocks of the watch block, in the order in which they are written.
func (m *Module) Notify() []Notify { return m.settings.notify }

var notifySchema = &hcl2.BodySchema{Attributes: []hcl2.AttributeSchema{
	{Name: "events"}, {Name: "webhook"}, {Name: "webhook_file"}, {Name: "command"}, {Name: "timeout"}, {Name: "retries"},
}}

// readWatch reads the watch block: of literals only, because a watchdog evaluates no configuration that it does not apply.
func (s *settings) readWatch(b *hcl2.Block) hcl2.Diagnostics {
	content, diags := b.Body.Content(&hcl2.BodySchema{Blocks: []hcl2.BlockHeaderSchema{{Type: "notify", LabelNames: []string{"name"}}}})
	names := map[string]hcl2.Range{}
	for _, block := range content.Blocks {
		name := block.Labels[0]
		if first, ok := names[name]; ok {
			diags = append(diags, duplicateSetting("notify block "+name, block.DefRange, first))
			continue
		}
		names[name] = block.DefRange
		if err := asError(name, validation.IsDNS1123Label(name)); err != nil {
			diags = append(diags, errorAt(block.LabelRanges[0], "Invalid name", "notify: %s.", err))
		}
		n, more := readNotify(block)
		diags = append(diags, more...)
		s.notify = append(s.notify, n)
	}
	return diags
}

func readNotify(b *hcl2.Block) (Notify, hcl2.Diagnostics) {
	n := Notify{Name: b.Labels[0], Events: []string{"Warning"}, Timeout: defaultNotifyTimeout, Retries: defaultNotifyRetries, Range: schema.Range(b.DefRange)}
	content, diags := b.Body.Content(notifySchema)
	timeout := ""
	for _, f := range []struct {
		name string
		of   cty.Type
		to   any
	}{
		{"events", cty.List(cty.String), &n.Events}, {"webhook", cty.String, &n.Webhook}, {"webhook_file", cty.String, &n.WebhookFile},
		{"command", cty.List(cty.String), &n.Command}, {"timeout", cty.String, &timeout}, {"retries", cty.Number, &n.Retries},
	} {
		if a, ok := content.Attributes[f.name]; ok {
			diags = append(diags, literal(a, f.of, f.to)...)
		}
	}
	fault := func(name, format string, args ...any) {
		at := b.DefRange
		if a, ok := content.Attributes[name]; ok {
			at = a.Expr.Range()
		}
		diags = append(diags, errorAt(at, "Invalid value", format, args...))
	}
	if diags.HasErrors() {
		return n, diags
	}
	ways := 0
	for _, set := range []bool{n.Webhook != "", n.WebhookFile != "", len(n.Command) > 0} {
		if set {
			ways++
		}
	}
	if ways != 1 {
		fault("", "A notify block has just one of webhook, webhook_file and command.")
	}
	if n.Webhook != "" {
		if err := CheckWebhook(n.Webhook); err != "" {
			fault("webhook", "webhook: %s.", err)
		}
	}
	if len(n.Command) > 0 && n.Command[0] == "" {
		fault("command", "command: the first of the list is the program.")
	}
	if len(n.Events) == 0 {
		fault("events", `events: it is empty; leave it out for all warnings, or name reasons such as "NodeNotReady".`)
	}
	for _, e := range n.Events {
		if e != "*" && (e == "" || strings.ContainsFunc(e, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') })) {
			fault("events", `events: %q is not the reason of an event; write one such as "NodeNotReady", "Warning" for all warnings, or "*".`, e)
		}
	}
	if timeout != "" {
		d, err := time.ParseDuration(timeout)
		if err != nil || d < time.Second || d > mostNotifyTimeout {
			fault("timeout", "timeout: %q is not a time from 1s to %s.", timeout, mostNotifyTimeout)
		}
		n.Timeout = d
	}
	if n.Retries < 0 || n.Retries > mostNotifyRetries {
		fault("retries", "retries: write a number from 0 to %d.", mostNotifyRetries)
	}
	return n, diags
}

// CheckWebhook says what is wrong with the URL of a webhook, without repeating it: it may be a secret. "" for nothing.
func CheckWebhook(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "it is not a URL that begins with https:// or http:// and a host"
	}
	return ""
}

// literal reads an attribute that may refer to nothing.
func literal(a *hcl2.Attribute, t cty.Type, to any) hcl2.Diagnostics {
	if used := a.Expr.Variables(); len(used) > 0 {
		return hcl2.Diagnostics{errorAt(used[0].SourceRange(), "Variables not allowed",
			"What a watchdog is told here is read without evaluating anything, so it can hold only literal values. Write the value itself here.")}
	}
	v, diags := a.Expr.Value(nil)
	if diags.HasErrors() {
		return diags
	}
	v, err := convert.Convert(v, t)
	if err != nil {
		return hcl2.Diagnostics{errorAt(a.Expr.Range(), "Invalid value", "%s: %s.", a.Name, err)}
	}
	if v.IsNull() {
		return nil
	}
	if err := gocty.FromCtyValue(v, to); err != nil {
		return hcl2.Diagnostics{errorAt(a.Expr.Range(), "Invalid value", "%s: %s.", a.Name, err)}
	}
	return nil
}
