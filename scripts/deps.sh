#!/bin/sh
# deps.sh: installs the Debian packages that the lab and the end-to-end tests use, and nothing that is there already.
# It starts no service, and needs neither root nor a network when nothing is missing. `make deps` runs it.
set -eu

# Each line: a package, and a program that does as well wherever it came from (docker's containerd.io brings containerd and runc).
wanted='
containerd                  containerd
runc                        runc
containernetworking-plugins /usr/lib/cni/bridge:/opt/cni/bin/bridge
iptables                    iptables
ipset                       ipset
conntrack                   conntrack
bind9-dnsutils              dig
iperf3                      iperf3
curl                        curl
iproute2                    ip
wireguard-tools             wg
wireguard-go                wireguard-go
mount                       mount
util-linux                  nsenter
procps                      sysctl
openssh-server              sshd
openssh-client              ssh
sudo                        sudo
redis-server                redis-server
postgresql                  /usr/lib/postgresql/15/bin/initdb:/usr/lib/postgresql/16/bin/initdb:/usr/lib/postgresql/17/bin/initdb
etcd-server                 etcd
systemd                     systemd-analyze
ca-certificates             update-ca-certificates
'

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

present() { # present PACKAGE PROGRAM
	case $2 in
	/*)
		for file in $(echo "$2" | tr : ' '); do
			[ -e "$file" ] && return 0
		done
		;;
	*) command -v "$2" >/dev/null && return 0 ;;
	esac
	command -v dpkg-query >/dev/null &&
		[ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=$(echo "$wanted" | while read -r package program; do
	[ -z "$package" ] || present "$package" "$program" || echo "$package"
done)
[ -n "$missing" ] || exit 0
missing=$(echo "$missing" | tr '\n' ' ')

if ! command -v apt-get >/dev/null; then
	echo "deps: missing: $missing" >&2
	echo "deps: this is not Debian or Ubuntu: install what corresponds to these packages by hand" >&2
	exit 1
fi
if [ "$(id -u)" != 0 ]; then
	echo "deps: missing: $missing" >&2
	echo "deps: run as root: sudo make deps" >&2
	exit 1
fi

# Packages of services start them when installed, unless this file says no.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	trap 'rm -f $policy' EXIT
	trap 'exit 130' INT TERM
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
fi

export DEBIAN_FRONTEND=noninteractive
echo "deps: installing $missing"
# shellcheck disable=SC2086 # one word per package
install() { apt-get install -y -q --no-install-recommends $missing; }
install || { apt-get update -q && install; }
