package ssh

import (
	"crypto/rand"
	"errors"
	"strconv"
	"strings"

	"berth.dev/berth/providers"
)

// quote makes one word of s for a POSIX shell, whatever bytes but NUL it holds.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// errNUL: a shell word cannot hold a NUL byte; it would be cut off without a word.
var errNUL = errors.New("a script or an argument holds a NUL byte")

// program is the shell text of a command: its arguments as $1, $2, … and then its script. It is only ever written to a
// shell's standard input, so neither shows in a process list.
func program(c providers.Command) (string, error) {
	var b strings.Builder
	b.WriteString("set --")
	for _, a := range c.Args {
		b.WriteByte(' ')
		b.WriteString(quote(a))
	}
	b.WriteByte('\n')
	b.WriteString(c.Script)
	text := b.String()
	if strings.IndexByte(text, 0) >= 0 {
		return "", errNUL
	}
	return text, nil
}

// prelude gives every script the same surroundings, whoever logs in: directories of root's programs, plain C messages,
// known permissions and place. $berth_group is the process group, by which a cancelled script is ended.
const prelude = `PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH" LC_ALL=C
export PATH LC_ALL
umask 022
cd /
berth_group=
if [ -r "/proc/$$/stat" ]; then read -r berth_a berth_b berth_c berth_d berth_group berth_e <"/proc/$$/stat"; fi
`

// newMark returns a word that no output holds by chance.
func newMark() string { return "berth-" + rand.Text() }

// sessionText is what a session's shell evaluates first; the rest of standard input belongs to the script. The marks
// tell the script's output from what the login shell's start-up files print. The braces make a program that was cut off on
// its way an error as a whole: none of it runs.
func sessionText(mark, program string) string {
	return "{\n" + prelude + "printf '%s\\n' " + mark + "; printf '%s %s\\n' " + mark + " \"$berth_group\" >&2\neval " + quote(program) + "\n}\n"
}

// sessionCommand starts a shell that reads n bytes of program from its standard input. The text has no character that any
// login shell would treat in its own way.
func sessionCommand(n int) string { return `sh -c 'eval "$(head -c ` + strconv.Itoa(n) + `)"'` }

// shellText runs a program in a subshell of the standing shell and marks the beginning and the end of both outputs. It is one
// line to the shell, so that none of it runs when it was cut off.
func shellText(mark, program string) string {
	return "printf %s " + mark + "; printf %s " + mark + " >&2; (eval " + quote(program) + ") </dev/null; " +
		"printf '%s%d\\n' " + mark + " \"$?\"; printf %s " + mark + " >&2\n"
}
