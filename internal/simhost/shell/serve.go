package shell

import (
	"bufio"
	"io"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// serve runs a shell that reads its script from standard input, line by line: what was read is run before more is. A line that is not a
// whole command is read on.
func (r *interp) serve() int {
	in := bufio.NewReader(r.fds.reader(0))
	var text strings.Builder
	for r.leaving == staying {
		line, err := in.ReadString('\n')
		text.WriteString(line)
		if line == "" && err != nil {
			break
		}
		p := syntax.NewParser(syntax.Variant(syntax.LangPOSIX))
		f, parseErr := p.Parse(strings.NewReader(text.String()), "sh")
		if parseErr != nil {
			if syntax.IsIncomplete(parseErr) && err == nil {
				continue
			}
			r.complain("%v", parseErr)
			r.status = 2
			break
		}
		text.Reset()
		r.all(f.Stmts)
		if err == io.EOF {
			break
		}
	}
	return r.end()
}
