package ssh

// Exit statuses of the scripts; they stand in their text too.
const (
	statusNone    = 66 // there is no such file
	statusLarge   = 67 // it is larger than asked for
	statusChanged = 68 // it is not the one that was read
	statusNoBash  = 69
)

// backupTime is the time in the name of a document that was replaced, so that names sort by it.
const backupTime = "20060102T150405.000000000Z"

// prelude takes the path, of which ~/ is the home of the user who logs in.
const prelude = `set -eu
umask 077
LC_ALL=C PATH=$PATH:/usr/local/bin:/usr/bin:/bin
export LC_ALL PATH
path=$1
case $path in "~/"*) path=$HOME/${path#"~/"} ;; esac
shift
`

// smallFile is what is read without a session of its own, in bytes.
const smallFile = 256 << 10

// readScript prints a file: $2 is what follows the path in its name, $3 the most bytes that it may have, "" for any. It opens the file
// once, so that another one which takes its place meanwhile does not matter.
const readScript = prelude + `[ -e "$path$1" ] || exit 66
exec 3<"$path$1" || exit 66
[ -z "$2" ] || [ "$(stat -c %s -L /proc/self/fd/0 <&3)" -le "$2" ] || exit 67
cat <&3
`

// listScript prints the times of the backups, the newest first.
const listScript = prelude + `for f in "$path".backup.*; do
	[ ! -e "$f" ] || printf '%s\n' "${f##*.backup.}"
done | sort -r
`

// killScript ends the script that holds the lock: its process is $2.
const killScript = prelude + `case $1 in "" | *[!0-9]*) echo "nobody holds the lock" >&2; exit 1 ;; esac
[ "/proc/$1/fd/9" -ef "$path.lock" ] || { echo "the lock has changed hands" >&2; exit 1; }
kill "$1"
`

// watchScript replaces the record of the watchdog that leads by $3, if the one that is there has the sum $2, "none" for no record.
const watchScript = prelude + `exec 9>>"$path.watch.lock"
flock -w 5 9 || { echo "another process has held $path.watch.lock for long" >&2; exit 1; }
there=none
[ ! -e "$path.watch" ] || there=$(sha256sum <"$path.watch" | cut -d " " -f 1)
[ "$there" = "$1" ] || exit 68
printf '%s\n' "$2" >"$path.watch.new"
mv -f -- "$path.watch.new" "$path.watch"
`

// lockScript takes the lock and serves its holder: $2 is who that is, $3 how many seconds the lock lasts without a sign, $4 how many backups
// stay, $5 how many minutes (0 for ever). It answers each line of its input with one, after what the line announces was taken in:
//
//	beat               ok
//	put BYTES SECONDS VERSION   ok, conflict: the new document follows
//	amend BYTES SECONDS VERSION   likewise: the old one becomes no backup
//	append BYTES SECONDS        ok: lines of the journal follow
//	clear              ok
//	unlock             ok, and the end
//
// "lost" instead says that the lock's file was removed or replaced; "failed TEXT" that the command had no effect.
const lockScript = `command -v bash >/dev/null || exit 69
exec bash -c '` + lockBash + `' bash "$@"
`

// lockBash has no single quotes, because lockScript puts them around it.
const lockBash = prelude + `info=$1 patience=$2 keep=$3 minutes=$4
dir=$(dirname -- "$path")
[ -d "$dir" ] || { echo "there is no directory $dir: make it first" >&2; exit 1; }
exec 9>>"$path.lock"
if ! flock -n 9; then
	echo "taken $(sed -n 3p <"$path.lock")"
	exit 0
fi
ours() { [ "$path.lock" -ef /proc/self/fd/9 ]; }
ours || { echo again; exit 0; }
fence=$(head -n 1 -- "$path.lock")
case $fence in "" | *[!0-9]*) fence=0 ;; esac
fence=$((fence + 1))
printf "%s\n%s\n%s\n" "$fence" "$$" "$info" >"$path.lock"
sync -- "$path.lock"
echo "locked $fence"

# take BYTES SECONDS: what follows goes to a file of its own; all of it or the end
take() {
	rm -f -- "$path.in"
	timeout --foreground "$2" head -c "$1" >"$path.in" || exit 1
	[ "$(stat -c %s -- "$path.in")" = "$1" ] || exit 1
}
version() {
	if [ -e "$path" ]; then
		sha256sum <"$path" | cut -d " " -f 1
	else
		echo none
	fi
}
amend() {
	sync -- "$path.in" && mv -f -- "$path.in" "$path" && sync -- "$dir"
}
put() {
	sync -- "$path.in" || return
	if [ -e "$path" ]; then
		backup=$path.backup.$(date -u +%Y%m%dT%H%M%S.%NZ)
		ln -- "$path" "$backup" 2>/dev/null || cp -- "$path" "$backup" || return
		touch -- "$backup" || return
	fi
	mv -f -- "$path.in" "$path" || return
	sync -- "$dir" || return
	n=0
	for f in $(for f in "$path".backup.*; do [ ! -e "$f" ] || printf "%s\n" "${f##*.backup.}"; done | sort -r); do
		n=$((n + 1))
		old=
		[ "$minutes" = 0 ] || old=$(find "$path.backup.$f" -mmin "+$minutes")
		if [ "$n" -gt "$keep" ] || { [ "$n" -gt 1 ] && [ -n "$old" ]; }; then
			rm -f -- "$path.backup.$f" || return
		fi
	done
}
try() {
	if said=$("$@" 2>&1); then
		echo ok
	else
		echo "failed ${said//[[:cntrl:]]/ }"
	fi
}
append() { cat -- "$path.in" >>"$path.journal" && sync -- "$path.journal" && sync -- "$dir"; }
clear() { rm -f -- "$path.journal" "$path.in" && sync -- "$dir"; }
while IFS=" " read -r -t "$patience" verb bytes seconds want; do
	case $verb in
	put | amend | append) take "$bytes" "$seconds" ;;
	esac
	ours || { echo lost; exit 0; }
	case $verb in
	beat) echo ok ;;
	put | amend)
		if [ "$(version)" = "$want" ]; then try "$verb"; else echo conflict; fi
		rm -f -- "$path.in"
		;;
	append)
		try append
		rm -f -- "$path.in"
		;;
	clear) try clear ;;
	unlock)
		printf "%s\n\n\n" "$fence" >"$path.lock"
		echo ok
		exit 0
		;;
	*) exit 1 ;;
	esac
done
exit 1
`
