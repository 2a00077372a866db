package ssh

import "io/fs"

// errPermission is what dialling a socket of somebody else's gives on this machine.
var errPermission = fs.ErrPermission

// pumpOpen is what a pump prints when the socket is open.
const pumpOpen = "berth-open\n"

// pumpScript moves bytes between its standard streams and a socket: $1 is the network, $2 the address, $3 and $4 the same
// pump in two languages, one of which every distribution has: Debian always perl, the RHEL family always a python3.
const pumpScript = `if command -v perl >/dev/null 2>&1; then exec perl -e "$3" "$1" "$2"; fi
for p in python3 /usr/libexec/platform-python; do
	if command -v "$p" >/dev/null 2>&1; then exec "$p" -c "$4" "$1" "$2"; fi
done
echo "neither perl nor python3 is on the host; one of them is needed to reach a socket where SSH forwarding cannot" >&2
exit 127
`

// Two processes, one per direction, so that neither waits for the other's reader.
const pumpPerl = `use strict; use Socket;
my ($net, $addr) = @ARGV; my $s;
if ($net eq "unix") {
	socket($s, PF_UNIX, SOCK_STREAM, 0) && connect($s, sockaddr_un($addr)) or die "connect to $addr: $!\n";
} else {
	my ($host, $port) = $addr =~ /^\[?(.*?)\]?:(\d+)$/ or die "not an address: $addr\n";
	my ($err, @all) = Socket::getaddrinfo($host, $port, {socktype => SOCK_STREAM});
	die "look up $host: $err\n" if $err;
	my $why = "no address";
	for my $a (@all) {
		if (socket($s, $a->{family}, SOCK_STREAM, 0) && connect($s, $a->{addr})) { $why = ""; last }
		$why = "$!";
	}
	die "connect to $addr: $why\n" if $why;
}
sub move {
	my ($from, $to) = @_;
	while (my $n = sysread($from, my $b, 65536)) {
		my $o = 0;
		while ($o < $n) { my $w = syswrite($to, $b, $n - $o, $o); return unless defined $w; $o += $w }
	}
}
syswrite(STDOUT, "berth-open\n");
my $pid = fork(); die "fork: $!\n" unless defined $pid;
if (!$pid) { close(STDOUT); move(\*STDIN, $s); shutdown($s, 1); exit 0 }
close(STDIN); move($s, \*STDOUT); close(STDOUT); kill("TERM", $pid); waitpid($pid, 0);
`

const pumpPython = `import os, signal, socket, sys
net, addr = sys.argv[1], sys.argv[2]
try:
    if net == "unix":
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.connect(addr)
    else:
        host, port = addr.rsplit(":", 1)
        s = socket.create_connection((host.strip("[]"), int(port)))
except OSError as e:
    sys.exit("connect to %s: %s" % (addr, e.strerror or e))
def write(b):
    while b:
        b = b[os.write(1, b):]
write(b"berth-open\n")
pid = os.fork()
try:
    if pid == 0:
        os.close(1)
        while True:
            b = os.read(0, 65536)
            if not b:
                break
            s.sendall(b)
        s.shutdown(socket.SHUT_WR)
        os._exit(0)
    os.close(0)
    while True:
        b = s.recv(65536)
        if not b:
            break
        write(b)
except OSError:
    pass
if pid == 0:
    os._exit(0)
os.close(1)
try:
    os.kill(pid, signal.SIGTERM)
except OSError:
    pass
os.waitpid(pid, 0)
`
