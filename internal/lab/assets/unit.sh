#!/bin/sh
# unit VERB NAME: what is known of systemd units. Verbs: find, start, stop, active.
# Of timers: OnUnitInactiveSec= in seconds; the first run is at once.
# Understood: ExecStart=, ExecStop= and their "-" prefix, ConditionPathExists=, RemainAfterExit=, TimeoutStartSec= in seconds.
# A service that stays (Type=notify, exec or simple) is started, and started again when it ends; nobody hears what it notifies.
verb=$1 name=$2
state=/run/berth-lab/units/$name

for dir in /etc/systemd/system /run/systemd/system /usr/local/lib/systemd/system /usr/lib/systemd/system /lib/systemd/system; do
	[ -e "$dir/$name" ] && file=$dir/$name && break
done
if [ -z "${file:-}" ]; then
	echo "Unit $name could not be found." >&2
	exit 4
fi

# value KEY: the values of a key, one per line, with continued lines joined
value() { sed -e ':a' -e '/\\$/N; s/\\\n/ /; ta' "$file" | sed -n "s/^$1=//p"; }

each() { # each KEY: run its commands in order
	value "$1" | while read -r line; do
		may_fail=no
		while :; do
			case $line in
			-*) may_fail=yes line=${line#-} ;;
			[@:+!]*) line=${line#?} ;;
			*) break ;;
			esac
		done
		timeout "$limit" /bin/sh -c "exec $line" </dev/null 3<&- || [ $may_fail = yes ] || exit 1
	done
}

case $verb,$name in
start,*.timer)
	[ -e "$state" ] && exit 0
	every=$(value OnUnitInactiveSec | tail -n 1 | tr -cd 0-9.)
	[ -n "$every" ] || { echo "$name: the lab's init runs timers with OnUnitInactiveSec= only" >&2; exit 1; }
	echo $$ >"$state"
	(
		while [ "$(cat "$state" 2>/dev/null)" = $$ ]; do # until it is stopped, or started anew
			"$0" start "${name%.timer}.service"
			sleep "$every"
		done
	) </dev/null >>/var/log/"$name".log 2>&1 3<&- &
	exit 0
	;;
esac

# stay: what it has in the background, as pid 1's child
stay() {
	line=$(value ExecStart | sed 's/%%/%/g')
	trap 'kill -TERM "$child" 2>/dev/null; wait "$child"; exit 0' TERM
	while :; do
		HOME=/root /bin/sh -c "exec $line" </dev/null >>"/var/log/$name.log" 2>&1 3<&- &
		child=$!
		wait "$child"
		sleep 1
	done
}

limit=$(value TimeoutStartSec | tail -n 1 | tr -cd 0-9)
limit=${limit:-90}
case $verb in
find) echo "$file" ;;
active)
	case $(value Type | tail -n 1) in
	notify | exec | simple) kill -0 "$(cat "$state" 2>/dev/null)" 2>/dev/null ;;
	*) [ -e "$state" ] ;;
	esac
	;;
start)
	case $(value Type | tail -n 1) in
	notify | exec | simple)
		if kill -0 "$(cat "$state" 2>/dev/null)" 2>/dev/null; then exit 0; fi
		stay </dev/null >/dev/null 2>&1 3<&- &
		echo $! >"$state"
		exit 0
		;;
	esac
	if [ "$(value Type | tail -n 1)" != oneshot ]; then
		echo "$name: the lab's init does not run units of this type" >&2
		exit 1
	fi
	value ConditionPathExists | while read -r path; do
		case $path in
		!*) [ ! -e "${path#!}" ] ;;
		*) [ -e "$path" ] ;;
		esac || exit 1
	done || exit 0
	[ -e "$state" ] && exit 0
	each ExecStart || exit 1
	case $(value RemainAfterExit | tail -n 1) in
	yes | true | on | 1) : >"$state" ;;
	esac
	;;
stop)
	case $(value Type | tail -n 1) in
	notify | exec | simple)
		if pid=$(cat "$state" 2>/dev/null); then
			kill -TERM "$pid" 2>/dev/null
			n=0
			while kill -0 "$pid" 2>/dev/null && [ $n -lt 900 ]; do sleep 0.1; n=$((n + 1)); done # 90 s, as systemd
			kill -KILL "$pid" $(pgrep -P "$pid") 2>/dev/null
		fi
		;;
	esac
	each ExecStop
	rm -f "$state"
	;;
esac
