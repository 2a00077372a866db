package shell

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth.dev/berth/internal/simhost/disk"
)

func newMachine(t *testing.T) *Machine {
	t.Helper()
	d := disk.New(1<<30, time.Now)
	for _, dir := range []string{"/tmp", "/work", "/proc"} {
		if err := d.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	d.Make("/proc/self/mountinfo", 0o444, d.MountInfo, nil)
	if err := d.MkdirAll("/dev", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := d.Special("/dev/null", disk.CharDevice); err != nil {
		t.Fatal(err)
	}
	return New(d, time.Now, NewLibrary())
}

// scripts are run here and by the machine's own /bin/sh, in an empty folder each: outputs, statuses and files have to be the same.
var scripts = []struct{ name, text, in string }{
	{"words", `set -- a "b c" ''; echo $#; for x; do echo "<$x>"; done; echo "$*" $*; shift; echo "$1"; echo "${x:-none}${y:-none}${y+set}"`, ""},
	{"trims", `f=/a/b/c.tar.gz; echo ${f%/*} ${f##*/} ${f%%.*} ${f#*.} ${#f}`, ""},
	{"arithmetic", `i=0; while [ $i -lt 3 ]; do i=$((i + 1)); echo $i; done; echo $((0755 & 02770)) $((7 * 1024 / 1000))`, ""},
	{"case", `for x in a ab "b c" '' x/y; do case $x in a) echo one;; a*|*c) echo two;; */*) echo path;; "") echo none;; *) echo other;; esac; done`, ""},
	{"errexit", `set -e; false || echo saved; if false; then :; fi; ! true; f() { false; echo unreached-in-test; }; f && echo x; (exit 3); echo never`, ""},
	{"errexit function", `set -e; f() { false; echo never; }; f; echo never`, ""},
	{"nounset", `set -u; echo ${a:-}; echo $b; echo never`, ""},
	{"substitution", `x=$(echo a; echo b; echo); echo "$x" $x; y=$(exit 4) || echo $?; echo "$(printf '%s-%s\n' 1 2 3)"`, ""},
	{"pipes", `printf 'b\na\nc\na\n' | sort -u | while read -r l; do echo "[$l]"; x=1; done; echo ${x:-unset}; false | true; echo $?`, ""},
	{"heredoc", "a=1\ncat <<X\nvalue $a\nX\ncat <<'X'\nvalue $a\nX\n", ""},
	{"read", "read -r a b c; echo \"$a|$b|$c\"; while read -r l; do echo \"$l\"; done; IFS=: read -r x y <<E\np:q:r\nE\necho $x $y", "one two three four\n  second line\\ \nthird"},
	{"head leaves the rest", `head -c 3; echo; cat`, "abcdef"},
	{"trap", `trap 'echo bye' EXIT; (trap 'echo inner' EXIT; exit 3); echo $?; exit 5`, ""},
	{"functions", `f() { local_x=$1; [ "$1" = stop ] && return 7; echo "f $# $1"; }; f a b; f stop; echo $?; g() ( x=2; echo in ); x=1; g; echo $x`, ""},
	{"loops", `for i in 1 2 3 4; do [ $i = 2 ] && continue; [ $i = 4 ] && break; for j in a b; do [ $j = b ] && continue 2; echo $i$j; done; done; until true; do :; done; echo $?`, ""},
	{"redirections", `echo out >f; echo more >>f; { echo e >&2; echo o; } 2>err >out; cat f err out; exec 3<f; read -r l <&3; echo $l; read -r l <&3; echo $l; exec 3<&-; cat nofile 2>/dev/null || echo no`, ""},
	{"glob", `: >b.rules; : >a.rules; : >.hidden; echo *.rules *.none; set -f; echo *; set +f; set -- *.x; [ -e "$1" ] || echo none`, ""},
	{"eval", `x='echo "$y"'; y='a  b'; eval "$x"; eval 'exit 3'; echo never`, ""},
	{"tests", `: >empty; echo x >full; mkdir d; ln -s full l; for o in -e -f -d -s -L -O; do for f in empty full d l none; do [ $o $f ] && echo $o $f; done; done; [ full -ef l ] && echo same; [ ! -e none ] && [ 1 -lt 2 ] && [ a != b ] && echo ok; [ -n "" ] || [ -z "" ] && echo z`, ""},
	{"files", `mkdir -p a/b; echo 1 >a/b/f; cp a/b/f a/g; mv a/g a/h; cat a/h; rm -f none; rm -rf a/b; ls -A a; rmdir a 2>/dev/null || echo full; mv -fT a c; ls; touch c/t; stat -c '%s %a' c/h; chmod 600 c/h; stat -c %a c/h; chmod ug+rwx,g+s c; stat -c %a c`, ""},
	{"options after operands", `mkdir -p -- d; chmod 0700 -- d; stat -c %a d; echo x >d/f; rm d -r; [ -e d ] || echo gone`, ""},
	{"mv into", `mkdir from to; echo 1 >from/a; echo 2 >from/b; find from -type f -exec mv -t to {} +; ls to; ls from`, ""},
	{"links", `ln -s one data; readlink data; ln -s two next; mv -fT next data; readlink data; ls -A`, ""},
	{"sed", `sed -n 's/^\([a-z0-9._-]*\) = \([0-9]*\)$/\1 \2/p'; `, "net.ipv4.ip_forward = 1\n# x\nno\n"},
	{"sed range", `sed -n "/^\*nat\$/,/^COMMIT/p"`, "*filter\nx\nCOMMIT\n*nat\ny\nCOMMIT\nz\n"},
	{"sed json", `sed -n 's/^{"lineage":"\([^"]*\)".*/\1/p' `, `{"lineage":"3f1c","cluster":"x","node":"a1","fence":12}` + "\n"},
	{"sed plain", `sed 's/ *$//' ; `, "a  \nb\n"},
	{"grep", `grep -v '^#' | grep -c '^-A'; echo -A x | grep -q 'y' || echo no; printf 'a b\nab\n' | grep -qw a && echo word; printf '1.2\n' | grep -x '1\.2'; echo ' m a' | grep -q " m a\$" && echo end; printf 'a\nb\n' | grep -E '^(a|c)$'; echo 'x[y' | grep -F '[y'`, "# c\n-A one\n-A two\n:x\n"},
	{"grep class", `grep -qs '^nameserver[[:space:]]*127\.0\.0\.53' && echo stub`, "nameserver 127.0.0.53\n"},
	{"awk", `awk -v t=nat '/^:/ { print t, substr($1, 2) } END { print NR }'`, ":A - [0:0]\n-A x\n:B -\n"},
	{"awk files", `printf '1 a\n2 b\n' >one; printf '3 c\n' >two; echo 4 d | awk '{ print v, FNR, $2 } ' v=x - v=y one v=z two`, ""},
	{"awk writes and pipes", `mkdir d; printf 'x 1\ny 2\n' >d/in; awk -v d="$(pwd)/d" -v to="sort -r >d/piped && : >d/done" '{ print $2 >(d "/out"); print $1 | to } END { close(d "/out"); while ((getline l <(d "/out")) > 0) n++; print n; close(to) }' d/in; cat d/out d/piped; ls d`, ""},
	{"comm", `printf 'a\nb\n' >1; printf 'b\nc\n' >2; comm -13 1 2; comm -12 1 2; cmp -s 1 1 && echo same; cmp -s 1 2 || echo other; sort 1 2 | uniq -d`, ""},
	{"tr", `echo net.ipv4.x | tr . /; printf 'a\nb\n' | tr '\n' ' '`, ""},
	{"tails", `printf '1\n2\n3\n4\n' >f; tail -n 2 f; tail -n +3 f; head -n 1 f; tail -c 3 f; tac f; wc -l <f`, ""},
	{"find", `mkdir -p v/ns/vol/x v/ns2/w; find v -mindepth 2 -maxdepth 2 -type d | sort; find v -depth -type d -exec rmdir -- {} \; ; [ -d v ] || echo gone`, ""},
	{"find groups", `mkdir -p a/podx/in b/y; : >b/y/f; find . -type d \( -name "pod*" -o -name y \) -prune | sort; find . \( -name in -o -name f \) | sort; find . -name none -o -type f; find b -name y -prune -o -print`, ""},
	{"find printf", `mkdir -p l/a; echo x >l/a/0.log; echo y >l/a/1.log; find l -mindepth 2 -maxdepth 2 -type f -name '*.log*' -printf '%P\n' | sort; cd l/a; find . -maxdepth 1 -type f -name '*.log' -printf '%f\0' | xargs -0r sha256sum -- | sort; : | xargs -0r echo never`, ""},
	{"sha256sum", `printf a >a; printf b >b; sha256sum a b >sums; sha256sum -c sums; printf x >b; sha256sum -c --quiet sums 2>/dev/null; echo $?; rm a; cat sums | sha256sum -c --quiet 2>/dev/null; sha256sum -c --status -- sums 2>/dev/null || echo no`, ""},
	{"cp tree", `mkdir -p d/e; echo x >d/e/f; ln -s e d/l; cp -rp -- d c; cat c/l/f; readlink c/l; stat -c %a c/e`, ""},
	{"printf", `printf '%s %d\n' a 1 b 2; printf %s x; printf '%04d|%5s|%-5s|\n' 7 a b; printf 'a\tb\\n\n'`, ""},
	{"echo", `echo 'a\tb' "x\\ny"; echo -n end; echo`, ""},
	{"subshell", `(cd /; pwd); x=1; (x=2); echo $x; { x=3; }; echo $x; (exit 9); echo $?`, ""},
	{"background", `(exit 3) & wait $!; echo $?; : & wait; echo $?`, ""},
	{"umask", `umask 077; : >f; mkdir d; stat -c %a f d; umask`, ""},
	{"not found", `nosuchprogram 2>/dev/null; echo $?; command -v nosuchprogram || echo none; command -v cat >/dev/null && echo cat`, ""},
	{"exec", `(exec printf '%s\n' x; echo never); echo $?`, ""},
	{"quotes", `a='it'"'"'s'; echo "$a" "\$x" '$x' "a\"b" \*; b="x  y"; echo $b "$b"`, ""},
	{"default in case", `case ${3:-} in ::ffff:*) echo 6;; "") echo none;; esac; set -- a b c; case ${3:-} in c) echo three;; esac`, ""},
	{"newline IFS", "IFS='\n'\nfor l in $(printf 'a b\\nc d\\n'); do echo \"<$l>\"; done\n", ""},
	{"multi line case", "want='a b c\nd e f'\ncase \"\n$want\n\" in\n*\"\nd e f\n\"*) echo yes;;\nesac\n", ""},
	{"stdin script", `sh -c 'eval "$(head -c 9)"; cat'`, "echo abc\nrest\n"},
	{"sh file", `printf 'echo "$0" "$1" $#; exit 4\n' >s; sh ./s a b; echo $?; printf 'set -u; echo ${X-unset}\n' >s; X=1; sh s; export X; sh s; Y=2 sh -c 'echo $Y'`, ""},
}

func TestLikeTheRealShell(t *testing.T) {
	t.Parallel()
	real, err := exec.LookPath("dash")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("no dash here to compare with")
		}
		t.Skip("no dash here to compare with")
	}
	for _, s := range scripts {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), real)
			dir := t.TempDir()
			script := filepath.Join(t.TempDir(), "script")
			if err := os.WriteFile(script, []byte(s.text), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd.Args = []string{"sh", script}
			cmd.Dir, cmd.Stdin = dir, strings.NewReader(s.in)
			cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "HOME=/root"}
			var wantOut, gotOut, gotErr bytes.Buffer
			cmd.Stdout = &wantOut
			_ = cmd.Run() // its status is compared
			want := cmd.ProcessState.ExitCode()

			m := newMachine(t)
			if err := m.Disk.WriteFile("/script", []byte(s.text), 0o644); err != nil {
				t.Fatal(err)
			}
			got := m.Run(t.Context(), "cd /work; exec sh /script", nil, nil, Streams{In: strings.NewReader(s.in), Out: &gotOut, Err: &gotErr})
			a, b := wantOut.String(), gotOut.String()
			a, b = strings.ReplaceAll(a, dir, "/work"), strings.ReplaceAll(b, "/script", script)
			if a != b || got != want {
				t.Errorf("sh printed %q with status %d, the simulated one %q with %d\n%s", a, want, b, got, gotErr.String())
			}
		})
	}
}

// An awk program that is given a folder works on a copy of it. What others do to files there in the meantime stays, unless it writes them itself.
func TestAwkLeavesOthersFiles(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for _, name := range []string{"changed", "removed", "kept", "own"} {
		if err := m.Disk.WriteFile("/srv/"+name, []byte("old\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	in := readerFunc(func([]byte) (int, error) { // while the program runs
		if err := errors.Join(m.Disk.WriteFile("/srv/changed", []byte("new\n"), 0o644), m.Disk.Remove("/srv/removed", false)); err != nil {
			t.Error(err)
		}
		return 0, io.EOF
	})
	var complaints bytes.Buffer
	const script = `awk -v d=/srv 'END { print "out" >(d "/own"); print "out" >(d "/made") }'`
	if status := m.Run(t.Context(), script, nil, nil, Streams{In: in, Err: &complaints}); status != 0 {
		t.Fatalf("status %d: %s", status, complaints.String())
	}
	for name, want := range map[string]string{"changed": "new\n", "removed": "", "kept": "old\n", "own": "out\n", "made": "out\n"} {
		if got, err := m.Disk.ReadFile("/srv/" + name); string(got) != want || (err != nil) != (want == "") {
			t.Errorf("%s holds %q, %v, want %q", name, got, err, want)
		}
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
