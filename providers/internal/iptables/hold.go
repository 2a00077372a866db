package iptables

// hold has the shell functions for addresses of load balancers that this host holds: it answers for them in its network.
const hold = `
# berth_bits IP: sets six, to -6 or -4, and bits, that of one address
berth_bits() { case $1 in *:*) six=-6 bits=128 ;; *) six=-4 bits=32 ;; esac; }
# berth_holds IP: is the address one of this host's?
berth_holds() { berth_bits "$1"; ip $six -o addr show to "$1" | grep -q .; }
# berth_way IP: prints the device by which the address's network is reached
berth_way() { berth_bits "$1"; ip $six route get "$1" | awk '{ for (i = 1; i < NF; i++) if ($i == "dev") { print $(i + 1); exit } }'; }
# berth_hold IP: takes the address and tells the network. At boot, which knows nothing of what happened meanwhile, only if nobody else has it. One
# of IPv6 is never where connections of the host's own come from.
berth_hold() {
	if berth_holds "$1"; then return 0; fi
	way=$(berth_way "$1")
	[ -n "$way" ] || { echo "no route leads to the network of the address $1" >&2; return 1; }
	if [ "${rebuild:-0}" = 1 ] && berth_tell "$1" "$way" ask; then
		echo "another host has the address $1: it is left to that one" >&2
		return 0
	fi
	case $1 in
	*:*) ip addr add "$1/128" dev "$way" nodad preferred_lft 0 ;;
	*) ip addr add "$1/32" dev "$way" ;;
	esac
	berth_tell "$1" "$way" tell
}
# berth_leave IP: gives the address up
berth_leave() {
	berth_bits "$1"
	ip $six -o addr show to "$1" | awk '{ print $2, $4 }' | while read -r way address; do
		case $address in "$1/$bits") ip addr del "$address" dev "$way" ;; esac
	done
}
# berth_held RULES...: the addresses that these texts hold
berth_held() { sed -n 's/^# ` + NoteHold + ` //p' "$@"; }
# berth_tell IP DEVICE ask|tell: "ask" succeeds when another host answers for the address within a second; "tell" tells everybody that it is here
berth_tell() {
	read -r index <"/sys/class/net/$2/ifindex"
	read -r mac <"/sys/class/net/$2/address"
	perl=$berth_arp_perl python=$berth_arp_python
	case $1 in *:*) perl=$berth_nd_perl python=$berth_nd_python ;; esac
	if command -v perl >/dev/null; then
		perl -e "$perl" "$1" "$index" "$mac" "$3"
	elif command -v python3 >/dev/null; then
		python3 -c "$python" "$1" "$2" "$mac" "$3"
	else
		echo "neither perl nor python3 is installed, one of which tells the network of an address" >&2
		return 1
	fi
}
berth_arp_perl='
use strict; use Socket;
my ($ip, $index, $mac, $what) = @ARGV;
my ($ours, $theirs) = (inet_aton($ip), pack("H12", join "", split /:/, $mac));
socket(my $s, 17, SOCK_RAW, unpack("S", pack("n", 0x0806))) or die "socket: $!\n";
my $here = pack("S n l S C C a8", 17, 0x0806, $index, 1, 0, 6, "\xff" x 6);
bind($s, pack("S n l S C C a8", 17, 0x0806, $index, 0, 0, 0, "")) or die "bind: $!\n";
sub arp {
	my ($op, $sender) = @_;
	send($s, "\xff" x 6 . $theirs . pack("n n n C C n a6 a4 a6 a4", 0x0806, 1, 0x0800, 6, 4, $op, $theirs, $sender, $op == 2 ? "\xff" x 6 : "", $ours), 0, $here) or die "send: $!\n";
}
if ($what eq "tell") {
	for (1 .. 3) { arp(1, $ours); arp(2, $ours); select undef, undef, undef, 0.02 }
	exit 0;
}
my $end = 10;
for my $round (1 .. $end) {
	arp(1, "\0" x 4) if $round % 3 == 1;
	my $in = ""; vec($in, fileno($s), 1) = 1;
	while (select(my $ready = $in, undef, undef, 0.1)) {
		recv($s, my $frame, 1500, 0);
		next if length $frame < 42 or substr($frame, 6, 6) eq $theirs;
		exit 0 if substr($frame, 28, 4) eq $ours;
	}
}
exit 1;
'
berth_arp_python='
import socket, struct, sys, time, select
ip, device, mac, what = sys.argv[1:]
ours, theirs = socket.inet_aton(ip), bytes.fromhex(mac.replace(":", ""))
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
s.bind((device, 0x0806))
def arp(op, sender):
    s.send(b"\xff" * 6 + theirs + struct.pack("!HHHBBH6s4s6s4s", 0x0806, 1, 0x0800, 6, 4, op, theirs, sender, b"\xff" * 6 if op == 2 else b"", ours))
if what == "tell":
    for i in range(3):
        arp(1, ours); arp(2, ours); time.sleep(0.02)
    sys.exit(0)
for i in range(10):
    if i % 3 == 0:
        arp(1, b"\0" * 4)
    end = time.monotonic() + 0.1
    while True:
        ready = select.select([s], [], [], max(0, end - time.monotonic()))[0]
        if not ready:
            break
        frame = s.recv(1500)
        if len(frame) >= 42 and frame[6:12] != theirs and frame[28:32] == ours:
            sys.exit(0)
sys.exit(1)
'
# The same of IPv6: neighbour advertisements that nobody has asked for, and solicitations. The kernel adds checksums.
berth_nd_perl='
use strict; use Socket qw(:DEFAULT inet_pton pack_sockaddr_in6);
my ($ip, $index, $mac, $what) = @ARGV;
my ($ours, $theirs) = (inet_pton(AF_INET6, $ip), pack("H12", join "", split /:/, $mac));
socket(my $s, AF_INET6, SOCK_RAW, 58) or die "socket: $!\n";
setsockopt($s, 41, 17, pack("i", $index)) or die "IPV6_MULTICAST_IF: $!\n";
setsockopt($s, 41, 18, pack("i", 255)) or die "IPV6_MULTICAST_HOPS: $!\n";
sub nd {
	my ($type, $flags, $option, $to) = @_;
	send($s, pack("C C n N a16 C C a6", $type, 0, 0, $flags, $ours, $option, 1, $theirs), 0, pack_sockaddr_in6(0, $to, $index)) or die "send: $!\n";
}
if ($what eq "tell") {
	for (1 .. 3) { nd(136, 0x20000000, 2, inet_pton(AF_INET6, "ff02::1")); select undef, undef, undef, 0.02 }
	exit 0;
}
for my $round (1 .. 10) {
	nd(135, 0, 1, inet_pton(AF_INET6, "ff02::1:ff00:0") & ("\xff" x 13 . "\0" x 3) | "\0" x 13 . substr($ours, 13)) if $round % 3 == 1;
	my $in = ""; vec($in, fileno($s), 1) = 1;
	while (select(my $ready = $in, undef, undef, 0.1)) {
		recv($s, my $packet, 1500, 0);
		exit 0 if length $packet >= 24 and ord($packet) == 136 and substr($packet, 8, 16) eq $ours;
	}
}
exit 1;
'
berth_nd_python='
import socket, struct, sys, time, select
ip, device, mac, what = sys.argv[1:]
ours, theirs = socket.inet_pton(socket.AF_INET6, ip), bytes.fromhex(mac.replace(":", ""))
index = socket.if_nametoindex(device)
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58)
s.setsockopt(41, 17, index)
s.setsockopt(41, 18, 255)
def nd(kind, flags, option, to):
    s.sendto(struct.pack("!BBHI16sBB6s", kind, 0, 0, flags, ours, option, 1, theirs), (to, 0, 0, index))
if what == "tell":
    for i in range(3):
        nd(136, 0x20000000, 2, "ff02::1"); time.sleep(0.02)
    sys.exit(0)
group = socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, "ff02::1:ff00:0")[:13] + ours[13:])
for i in range(10):
    if i % 3 == 0:
        nd(135, 0, 1, group)
    end = time.monotonic() + 0.1
    while True:
        ready = select.select([s], [], [], max(0, end - time.monotonic()))[0]
        if not ready:
            break
        packet = s.recv(1500)
        if len(packet) >= 24 and packet[0] == 136 and packet[8:24] == ours:
            sys.exit(0)
sys.exit(1)
'
`
