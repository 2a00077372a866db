package shell

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func sortProgram(p *Process) int {
	got, rest, ok := p.options("urn", "k", nil)
	if !ok {
		return 2
	}
	b, failed := p.input(rest)
	lines := linesOf(b)
	slices.SortStableFunc(lines, func(a, b string) int {
		c := 0
		if got['n'] != "" {
			x, _ := strconv.ParseFloat(strings.TrimSpace(a), 64) // as sort does: what is no number is 0
			y, _ := strconv.ParseFloat(strings.TrimSpace(b), 64)
			c = int(max(-1, min(1, x-y)))
		}
		if c == 0 {
			c = strings.Compare(a, b)
		}
		if got['r'] != "" {
			c = -c
		}
		return c
	})
	if got['u'] != "" {
		lines = slices.Compact(lines)
	}
	return max(failed, p.write(joined(lines)))
}

func uniq(p *Process) int {
	got, rest, ok := p.options("dc", "", nil)
	if !ok {
		return 1
	}
	b, failed := p.input(rest)
	var out []string
	lines := linesOf(b)
	for i := 0; i < len(lines); {
		j := i
		for j < len(lines) && lines[j] == lines[i] {
			j++
		}
		switch {
		case got['c'] != "":
			out = append(out, fmt.Sprintf("%7d %s", j-i, lines[i]))
		case got['d'] == "" || j-i > 1:
			out = append(out, lines[i])
		}
		i = j
	}
	return max(failed, p.write(joined(out)))
}

func comm(p *Process) int {
	got, rest, ok := p.options("123", "", nil)
	if !ok || len(rest) != 2 {
		return 1
	}
	a, fa := p.input(rest[:1])
	b, fb := p.input(rest[1:])
	x, y := linesOf(a), linesOf(b)
	var out []string
	add := func(column byte, s string) {
		if got[column] == "" {
			out = append(out, s)
		}
	}
	for len(x) > 0 || len(y) > 0 {
		switch {
		case len(y) == 0 || len(x) > 0 && x[0] < y[0]:
			add('1', x[0])
			x = x[1:]
		case len(x) == 0 || y[0] < x[0]:
			add('2', y[0])
			y = y[1:]
		default:
			add('3', x[0])
			x, y = x[1:], y[1:]
		}
	}
	return max(fa, fb, p.write(joined(out)))
}

func cmp(p *Process) int {
	_, rest, ok := p.options("s", "", nil)
	if !ok || len(rest) != 2 {
		return 2
	}
	var both [2][]byte
	for i, n := range rest {
		r, err := p.file(n)
		if err == nil {
			both[i], err = io.ReadAll(r)
		}
		if err != nil {
			return 2
		}
	}
	return btoi(!bytes.Equal(both[0], both[1]))
}

func sha256sum(p *Process) int {
	quiet, silent := false, false
	got, rest, ok := p.options("c", "", func(o string) bool {
		quiet, silent = quiet || o == "--quiet", silent || o == "--status"
		return o == "--quiet" || o == "--status"
	})
	if !ok {
		return 1
	}
	if len(rest) == 0 {
		rest = []string{"-"}
	}
	if got['c'] != "" {
		return p.checkSums(rest, quiet, silent)
	}
	for _, n := range rest {
		b, failed := p.input([]string{n})
		if failed != 0 {
			return failed
		}
		if s := p.write(fmt.Appendf(nil, "%x  %s\n", sha256.Sum256(b), n)); s != 0 {
			return s
		}
	}
	return 0
}

// checkSums compares files with the sums in lists. Names with backslashes, which are written in another way, are not known here.
func (p *Process) checkSums(lists []string, quiet, silent bool) int {
	text, status := p.input(lists)
	say := func(name, what string) {
		if !silent {
			p.write(fmt.Appendf(nil, "%s: %s\n", name, what))
		}
	}
	for line := range strings.Lines(string(text)) {
		want, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if !ok || len(want) != 2*sha256.Size {
			return p.Fail(1, "no properly formatted checksum lines found")
		}
		b, err := p.m.Disk.ReadFile(p.abs(name))
		switch {
		case err != nil:
			say(name, "FAILED open or read")
			status = 1
		case fmt.Sprintf("%x", sha256.Sum256(b)) != want:
			say(name, "FAILED")
			status = 1
		case !quiet:
			say(name, "OK")
		}
	}
	return status
}

func gzipProgram(p *Process) int {
	got, rest, ok := p.options("cd", "", nil)
	if !ok {
		return 1
	}
	b, failed := p.input(rest)
	if failed != 0 {
		return failed
	}
	if got['d'] != "" {
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err == nil {
			b, err = io.ReadAll(z)
		}
		if err != nil {
			return p.Fail(1, "%v", err)
		}
		return p.write(b)
	}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		return p.Fail(1, "%v", err)
	}
	if err := z.Close(); err != nil {
		return p.Fail(1, "%v", err)
	}
	return p.write(out.Bytes())
}

// basic turns a basic regular expression into Go's syntax; extended ones only lose what Go writes otherwise.
func basic(expr string, extended bool) string {
	var b strings.Builder
	for i := 0; i < len(expr); i++ {
		c := expr[i]
		switch {
		case c == '[': // a bracket expression stays as it is
			j := i + 1
			if j < len(expr) && expr[j] == '^' {
				j++
			}
			if j < len(expr) && expr[j] == ']' {
				j++
			}
			for j < len(expr) && expr[j] != ']' {
				if expr[j] == '[' && j+1 < len(expr) && expr[j+1] == ':' {
					j += 2 + strings.Index(expr[j+2:], ":]") + 1
				}
				j++
			}
			b.WriteString(strings.ReplaceAll(expr[i:min(j+1, len(expr))], `\`, `\\`))
			i = j
		case c == '\\' && i+1 < len(expr):
			i++
			switch n := expr[i]; {
			case !extended && strings.IndexByte("(){}|+?", n) >= 0:
				b.WriteByte(n)
			case n == '<' || n == '>':
				b.WriteString(`\b`)
			default:
				b.WriteString(regexp.QuoteMeta(string(n)))
			}
		case !extended && strings.IndexByte("(){}|+?", c) >= 0:
			b.WriteString(`\` + string(c))
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

func grep(p *Process) int {
	got, rest, ok := p.options("qcvxFEswoi", "e", nil)
	if !ok {
		return 2
	}
	expr, given := got['e']
	if !given {
		if len(rest) == 0 {
			return p.Fail(2, "no pattern")
		}
		expr, rest = rest[0], rest[1:]
	}
	if got['F'] != "" {
		expr = regexp.QuoteMeta(expr)
	} else {
		expr = basic(expr, got['E'] != "")
	}
	if got['w'] != "" {
		expr = `\b(?:` + expr + `)\b`
	}
	if got['x'] != "" {
		expr = `^(?:` + expr + `)$`
	}
	if got['i'] != "" {
		expr = `(?i)` + expr
	}
	re, err := p.m.lib.regexp(expr)
	if err != nil {
		return p.Fail(2, "%v", err)
	}
	if len(rest) == 0 {
		rest = []string{"-"}
	}
	found, failed := 0, 0
	var out []string
	for _, n := range rest {
		r, err := p.file(n)
		var b []byte
		if err == nil {
			b, err = io.ReadAll(r)
		}
		if err != nil {
			failed = 2
			if got['s'] == "" && got['q'] == "" {
				p.Say("grep: %s: %s", n, reason(err))
			}
			continue
		}
		for _, l := range linesOf(b) {
			if re.MatchString(l) != (got['v'] != "") {
				found++
				if got['o'] != "" {
					out = append(out, re.FindAllString(l, -1)...)
				} else {
					out = append(out, l)
				}
			}
		}
	}
	switch {
	case got['q'] != "" && found > 0:
		return 0
	case got['c'] != "":
		out = []string{strconv.Itoa(found)}
	case got['q'] != "":
		out = nil
	}
	if s := p.write(joined(out)); s != 0 {
		return 2
	}
	if failed != 0 {
		return failed
	}
	return btoi(found == 0)
}

// sedCommand is an address and what is done with the lines that it names.
type sedCommand struct {
	from, to *regexp.Regexp // nil for none
	line     int            // instead of from; -1 for the last
	inside   bool
	do       byte // s, p, d
	what     *regexp.Regexp
	with     string
	all      bool
	print    bool
}

// sed knows the commands s, p and d with addresses.
func sed(p *Process) int {
	got, rest, ok := p.options("nEr", "e", nil)
	if !ok {
		return 1
	}
	text, given := got['e']
	if !given {
		if len(rest) == 0 {
			return p.Fail(1, "no script")
		}
		text, rest = rest[0], rest[1:]
	}
	var commands []*sedCommand
	for part := range strings.SplitSeq(text, "\n") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		c, err := parseSed(p.m.lib, part, got['E'] != "" || got['r'] != "")
		if err != nil {
			return p.Fail(1, "%v", err)
		}
		commands = append(commands, c)
	}
	b, failed := p.input(rest)
	var out []string
	lines := linesOf(b)
	for i, l := range lines {
		kept := true
		for _, c := range commands {
			if !c.applies(l, i, len(lines)) {
				continue
			}
			switch c.do {
			case 'd':
				kept = false
			case 'p':
				out = append(out, l)
			case 's':
				changed := c.substitute(l)
				if changed != l || c.what.MatchString(l) {
					l = changed
					if c.print {
						out = append(out, l)
					}
				}
			}
			if !kept {
				break
			}
		}
		if kept && got['n'] == "" {
			out = append(out, l)
		}
	}
	return max(failed, p.write(joined(out)))
}

func (c *sedCommand) applies(l string, i, n int) bool {
	switch {
	case c.line > 0:
		return i+1 == c.line
	case c.line < 0:
		return i+1 == n
	case c.from == nil:
		return true
	case c.to == nil:
		return c.from.MatchString(l)
	case c.inside:
		c.inside = !c.to.MatchString(l)
		return true
	}
	c.inside = c.from.MatchString(l)
	return c.inside
}

func (c *sedCommand) substitute(l string) string {
	if c.all {
		return c.what.ReplaceAllString(l, c.with)
	}
	m := c.what.FindStringSubmatchIndex(l)
	if m == nil {
		return l
	}
	return l[:m[0]] + string(c.what.ExpandString(nil, c.with, l, m)) + l[m[1]:]
}

// delimited takes a part up to a delimiter.
func delimited(s string, d byte) (part, rest string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == d:
			b.WriteByte(d)
			i++
		case s[i] == '\\' && i+1 < len(s):
			b.WriteString(s[i : i+2])
			i++
		case s[i] == d:
			return b.String(), s[i+1:], true
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", false
}

func parseSed(lib *Library, s string, extended bool) (*sedCommand, error) {
	c := &sedCommand{}
	address := func() (*regexp.Regexp, error) {
		part, rest, ok := delimited(s[1:], '/')
		if !ok {
			return nil, fmt.Errorf("unterminated address regex")
		}
		s = rest
		return lib.regexp(basic(part, extended))
	}
	var err error
	switch {
	case s[0] == '/':
		if c.from, err = address(); err != nil {
			return nil, err
		}
		if strings.HasPrefix(s, ",/") {
			s = s[1:]
			if c.to, err = address(); err != nil {
				return nil, err
			}
		}
	case s[0] == '$':
		c.line, s = -1, s[1:]
	case s[0] >= '0' && s[0] <= '9':
		n := 0
		for n < len(s) && s[n] >= '0' && s[n] <= '9' {
			n++
		}
		if c.line, err = strconv.Atoi(s[:n]); err != nil {
			return nil, err
		}
		s = s[n:]
	}
	if s = strings.TrimSpace(s); s == "" {
		return nil, fmt.Errorf("missing command")
	}
	c.do = s[0]
	switch c.do {
	case 'p', 'd':
		if len(s) > 1 {
			return nil, fmt.Errorf("extra characters after command: %q", s)
		}
		return c, nil
	case 's':
	default:
		return nil, fmt.Errorf("unknown command: `%c'", c.do)
	}
	d := s[1]
	what, rest, ok := delimited(s[2:], d)
	with, flags, ok2 := delimited(rest, d)
	if !ok || !ok2 {
		return nil, fmt.Errorf("unterminated `s' command")
	}
	if c.what, err = lib.regexp(basic(what, extended)); err != nil {
		return nil, err
	}
	c.with = replacement(with)
	for _, f := range flags {
		switch f {
		case 'g':
			c.all = true
		case 'p':
			c.print = true
		default:
			return nil, fmt.Errorf("unknown option to `s': %c", f)
		}
	}
	return c, nil
}

// replacement turns sed's into Go's.
func replacement(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && s[i+1] >= '0' && s[i+1] <= '9':
			i++
			b.WriteString("${" + string(s[i]) + "}")
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == 'n':
			i++
			b.WriteByte('\n')
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case s[i] == '&':
			b.WriteString("${0}")
		case s[i] == '$':
			b.WriteString("$$")
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}
