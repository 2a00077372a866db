package runtime

// logScript writes a log to standard output: $1 is the file that is being written, $2 how many lines from the end or "all", $3 "follow"
// or "", and files that were last written before the second $4 are left out. With "follow" it goes on until its standard input ends, and
// then to the end of what is there: a connection that breaks leaves nothing behind on the host.
//
// A log is its rotated files, in the order of their names, and the file itself. Rotation renames the file (N.log to N.log.20260102-150405),
// later compresses it (.gz) and one day deletes it. Whoever reads keeps the file open and so reads it to its end, whatever becomes of its
// name; then he looks for what came after it: the file after its name, or, when it has none any more, the first that was written later.
// Names have no spaces in them: they are made of ours.
const logScript = `export LC_ALL=C
base=$1 lines=$2 mode=$3 since=$4

# Whether a file is none of the log's, or comes twice: a copy that is being compressed, what was compressed and is not deleted yet.
skip() {
	[ -e "$1" ] || return 0
	case $1 in
	*.tmp) return 0 ;;
	*.gz) [ -e "${1%.gz}" ] && return 0 ;;
	esac
	return 1
}

# What a file holds, from its end.
backwards() {
	case $1 in
	*.gz) gzip -dc -- "$1" | tac ;;
	*) tac -- "$1" ;;
	esac
}

# Sets back to the log's files, the newest first.
list() {
	back=
	for g in "$base".* "$base"; do
		skip "$g" && continue
		[ "$since" != 0 ] && [ "$g" != "$base" ] && [ "$(stat -c %Y -- "$g")" -lt "$since" ] && continue
		back="$g $back"
	done
}

# Sets f to the file to begin with and from to its first entry, as tail understands it. An entry tagged P goes on in the next one.
start() {
	list
	f= from=+1
	if [ "$lines" = 0 ]; then
		f=${back%% *} from=end
		return
	fi
	left=$lines
	for g in $back; do
		f=$g from=+1
		[ "$lines" = all ] && continue
		set -- $(backwards "$g" | awk -v n="$left" '$3 ~ /^F/ { if (f == n) exit; f++ } { k++ } END { print f + 0, k + 0 }')
		from=${2:-0} left=$((left - ${1:-0}))
		[ "$left" -gt 0 ] || return
		from=+1
	done
}

# Sets next to the file after the one that is open.
successor() {
	found= next=
	for g in "$base".* "$base"; do
		skip "$g" && continue
		if [ "$found" ]; then
			next=$g
			return 0
		fi
		[ "$g" -ef /dev/fd/3 ] && found=1
	done
	[ "$found" ] && return 1
	for g in "$base".* "$base"; do
		skip "$g" && continue
		if [ "$g" -nt /dev/fd/3 ]; then
			next=$g
			return 0
		fi
	done
	return 1
}

# Reads the open file, named f, until another one follows it (0) or nothing more is wanted (1). from is "" when it was begun before.
one() {
	packed=
	case $f in *.gz) packed=1 ;; esac
	case $packed:$from in
	*: | 1:end) ;;
	1:*) gzip -dc <&3 | tail -n "$from" ;;
	:end) tail -c "+$(($(stat -L -c %s /dev/fd/3) + 1))" <&3 ;;
	*) tail -n "$from" <&3 ;;
	esac
	from=
	while :; do
		last=
		[ "$mode" ] && kill -0 "$reader" 2>/dev/null || last=1
		[ "$packed" ] || cat <&3
		if successor; then
			if [ "$f" = "$base" ] || { [ "$mode" ] && [ "$next" = "$base" ]; }; then
				sleep 0.2 # it was just rotated: what is being written may still go to it
				[ "$packed" ] || cat <&3
			fi
			return 0
		fi
		[ "$last" ] && return 1
		sleep 0.2
	done
}

# Takes the file that was opened as 5, if the files are still those that it was chosen from.
begin() {
	before=$back
	list
	[ "$back" = "$before" ] && exec 3<&5
}
hop() {
	successor && [ "$next" -ef /dev/fd/5 ] && exec 3<&5
}

if [ "$mode" ]; then
	exec 4<&0
	cat <&4 >/dev/null &
	reader=$!
	exec </dev/null 4<&-
	until [ -e "$base" ] || ! kill -0 "$reader" 2>/dev/null; do sleep 0.2; done
fi
while
	start
	[ "$f" ] && ! begin 2>/dev/null 5<"$f"
do :; done
[ "$f" ] || exit 0
while one; do
	while successor; do # it fails, too, while the log is just being renamed
		if hop 2>/dev/null 5<"$next"; then
			f=$next from=+1
			break
		fi
	done
done
exit 0
`
