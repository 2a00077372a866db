package hcl

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// FuzzRecordLine makes lines of a zone file of whatever somebody writes: each is one record of that name and type, or it is refused.
func FuzzRecordLine(f *testing.F) {
	for _, v := range []string{"192.0.2.1", "a.example", "10 mail.example.", "0 5 5060 sip", "one \"two\" \\ ;", "1\n2", "$INCLUDE /etc/passwd", "( )", "", strings.Repeat("x", 300), "\\# 4 0A000001"} {
		for i := range recordTypes {
			f.Add(v, i)
		}
	}
	f.Fuzz(func(t *testing.T, value string, i int) {
		if i < 0 {
			return
		}
		kind := recordTypes[i%len(recordTypes)]
		line, err := recordLine("name.example", kind, value, 5)
		if err != nil {
			return
		}
		if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") {
			t.Fatalf("%q is not one line", line)
		}
		p := dns.NewZoneParser(strings.NewReader(line), ".", "")
		rr, ok := p.Next()
		if !ok || rr.Header().Name != "name.example." || dns.TypeToString[rr.Header().Rrtype] != kind {
			t.Fatalf("%q of %q is read as %v, %v", line, value, rr, p.Err())
		}
		if more, ok := p.Next(); ok || p.Err() != nil {
			t.Fatalf("%q holds more: %v, %v", line, more, p.Err())
		}
		if txt, is := rr.(*dns.TXT); is && isPlain(value) && strings.Join(txt.Txt, "") != strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) {
			t.Fatalf("the text %q has become %q", value, txt.Txt)
		}
	})
}

// isPlain reports whether a text is made of what can be seen.
func isPlain(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c > '~' })
}
