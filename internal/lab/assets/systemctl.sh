#!/bin/sh
# systemctl as the hosts of berth's lab have it: enough for units that berth installs, for containerd and for ssh.
unit=/usr/local/lib/berth-lab/unit
run=/run/berth-lab
now=no quiet=no verb=
names=

for arg; do
	case $arg in
	--now) now=yes ;;
	-q | --quiet) quiet=yes ;;
	-*) ;; # --no-pager, --no-block and the like change nothing here
	*) if [ -z "$verb" ]; then verb=$arg; else names="$names $arg"; fi ;;
	esac
done

die() {
	echo "systemctl (lab): $*" >&2
	exit 1
}

# daemon NAME: the name under which pid 1 supervises it, or nothing
daemon() {
	case $1 in
	containerd.service) echo containerd ;;
	ssh.service | sshd.service) echo ssh ;;
	esac
}

pid_of() { cat $run/$1.pid 2>/dev/null; }

daemon_ready() {
	case $1 in
	containerd) ctr --connect-timeout 500ms version >/dev/null 2>&1 ;;
	ssh) [ -n "$(pid_of ssh)" ] ;;
	esac
}

until_() { # until_ COMMAND...: wait for it, as long as systemd does
	end=$(($(date +%s) + 90))
	until "$@"; do
		[ "$(date +%s)" -lt $end ] || die "timed out: $*"
		sleep 0.05
	done
}

stopped() { [ -z "$(pid_of "$1")" ]; } # pid 1 has noticed too

daemon_stop() {
	: >$run/$1.stopped
	p=$(pid_of "$1")
	[ -n "$p" ] || return 0
	kill "$p" 2>/dev/null
	until_ stopped "$1"
}

daemon_start() {
	rm -f $run/$1.stopped
	until_ daemon_ready "$1"
}

targets() { # targets FILE: folders for its links, from [Install]
	sed -n 's/^WantedBy=//p' "$1" | tr ' ' '\n' | sed -e '/^$/d' -e 's,^,/etc/systemd/system/,' -e 's,$,.wants,'
}

enabled() { ls /etc/systemd/system/*.wants/"$1" >/dev/null 2>&1; }

one() { # one VERB NAME
	n=$2
	case $n in *.*) ;; *) n=$n.service ;; esac
	d=$(daemon "$n")
	case $1 in
	start) if [ -n "$d" ]; then daemon_start "$d"; else $unit start "$n"; fi ;;
	stop) if [ -n "$d" ]; then daemon_stop "$d"; else $unit stop "$n"; fi ;;
	restart | reload-or-restart | try-restart)
		if [ -n "$d" ]; then daemon_stop "$d" && daemon_start "$d"; else $unit stop "$n" && $unit start "$n"; fi
		;;
	reload) if [ "$d" = ssh ]; then kill -HUP "$(pid_of ssh)"; else die "cannot reload $n"; fi ;;
	enable)
		[ -n "$d" ] && return 0
		f=$($unit find "$n") || return 1
		for t in $(targets "$f"); do mkdir -p "$t" && ln -sfn "$f" "$t/$n"; done
		[ $now = no ] || $unit start "$n"
		;;
	disable)
		[ -n "$d" ] && die "the lab always starts $n"
		rm -f /etc/systemd/system/*.wants/"$n"
		[ $now = no ] || $unit stop "$n"
		;;
	is-active)
		if [ -n "$d" ]; then [ -n "$(pid_of "$d")" ]; else $unit active "$n" 2>/dev/null; fi
		r=$?
		[ $quiet = yes ] || if [ $r = 0 ]; then echo active; else echo inactive; fi
		[ $r = 0 ] || return 3
		;;
	is-enabled)
		[ -n "$d" ] || enabled "$n"
		r=$?
		[ $quiet = yes ] || if [ $r = 0 ]; then echo enabled; else echo disabled; fi
		return $r
		;;
	status)
		echo "$n"
		if one is-active "$n" >/dev/null; then echo "     Active: active"; else echo "     Active: inactive (dead)" && return 3; fi
		;;
	cat) f=$($unit find "$n") && cat "$f" ;;
	*) die "verb $1 is not supported" ;;
	esac
}

case $verb in
daemon-reload | reset-failed) exit 0 ;;
is-system-running) echo running && exit 0 ;;
"") die "say what to do" ;;
esac
[ -n "$names" ] || die "$verb: which unit?"
result=0
for n in $names; do one "$verb" "$n" || result=$?; done
exit $result
