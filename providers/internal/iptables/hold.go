package iptables

// hold has the shell functions for addresses of load balancers that this host holds: it answers for them in its network.
const hold = `
# berth_holds IP: is the address one of this host's?
berth_holds() { ip -4 -o addr show to "$1" | grep -q .; }
# berth_way IP: prints the device by which the address's network is reached
berth_way() { ip -4 route get "$1" | awk '{ for (i = 1; i < NF; i++) if ($i == "dev") { print $(i + 1); exit } }'; }
# berth_hold IP: takes the address and tells the network. At boot, which knows nothing of what happened meanwhile, only if nobody else has it.
berth_hold() {
	if berth_holds "$1"; then return 0; fi
	way=$(berth_way "$1")
	[ -n "$way" ] || { echo "no route leads to the network of the address $1" >&2; return 1; }
	if [ "${rebuild:-0}" = 1 ] && berth_arp "$1" "$way" ask; then
		echo "another host has the address $1: it is left to that one" >&2
		return 0
	fi
	ip addr add "$1/32" dev "$way"
	berth_arp "$1" "$way" tell
}
# berth_leave IP: gives the address up
berth_leave() {
	ip -4 -o addr show to "$1" | awk '{ print $2, $4 }' | while read -r way address; do
		case $address in "$1/32") ip addr del "$address" dev "$way" ;; esac
	done
}
# berth_held RULES...: the addresses that these texts hold
berth_held() { sed -n 's/^# ` + NoteHold + ` //p' "$@"; }
# berth_arp IP DEVICE ask|tell: "ask" succeeds when another host answers for the address within a second; "tell" tells everybody that it is here
berth_arp() {
	read -r index <"/sys/class/net/$2/ifindex"
	read -r mac <"/sys/class/net/$2/address"
	if command -v perl >/dev/null; then
		perl -e "$berth_arp_perl" "$1" "$index" "$mac" "$3"
	elif command -v python3 >/dev/null; then
		python3 -c "$berth_arp_python" "$1" "$2" "$mac" "$3"
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
`
