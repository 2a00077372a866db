#!/bin/sh
# demo.sh: a lab of three hosts, the shop of examples/shop on it, a look around, a change. `make demo` runs it as root.
# It leaves the lab up.
set -eu
cd "$(dirname "$0")/.."
berth=$PWD/bin/berth
fetch="$PWD/examples/shop/bin/web get"

if [ -t 1 ]; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); else bold='' plain=''; fi
say() { printf '\n%s# %s%s\n' "$bold" "$*" "$plain"; }
run() { # shows a command as a person would type it, and runs it
	printf '%s$ berth' "$bold"
	for word; do
		case $word in *' '*) printf " '%s'" "$word" ;; *) printf ' %s' "$word" ;; esac
	done
	printf '%s\n' "$plain"
	"$berth" "$@"
}

say "Three hosts, made out of namespaces on this machine: each with its own SSH server, containerd and iptables."
rm -f examples/shop/berth.state* # of a lab that is replaced now
run lab up --nodes 3

cd examples/shop
say "The shop: a web front with three pods, a store with a volume. The plan, then the work, over SSH."
export BERTH_IN_AUTOMATION=1
run apply --auto-approve

say "Its pods, and where they run."
run get pods -n shop -o wide

url=$("$berth" output --raw url)
say "The page from outside, through a node's port: $url"
$fetch "$url"

ip=$("$berth" get services -n shop | awk '$1 == "web" { print $3 }')
say "The page from inside a pod, through the service's own address."
run exec -n shop deployment.web -- /web get "http://$ip/"

say "The same again: there is nothing to do."
run plan

say "A new release and a new greeting: one pod after the other is replaced, and none is missed."
run apply --auto-approve --var release=1.1 --var 'greeting=Under new management'
run get pods -n shop -o wide
$fetch "$url"

say "The lab stays up. Look around:"
cat <<EOF2
    cd examples/shop
    ../../bin/berth get pods -n shop -o wide
    ../../bin/berth logs -n shop -f deployment.store
    ../../bin/berth plan --var release=1.1 --var 'greeting=Under new management' --var replicas=5
    ssh -F /var/lib/berth-lab/lab/ssh_config n1
  and take it down:
    ../../bin/berth destroy --auto-approve && ../../bin/berth lab down
EOF2
