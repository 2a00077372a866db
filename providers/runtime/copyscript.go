package runtime

// copyScript runs the same program in one of two languages, one of which every distribution has: Debian always perl, the RHEL family always a
// python3. $1 and $2 are the program; the rest are its arguments: the container's process and ID, what to do (test, read, write), a path, and
// how.
//
// The program goes into the file system that the process sees, checks that the process is still the container's, and then takes the user, the
// groups and the capabilities that the container's process has: it can do there what the container can do, and nothing more. It opens no
// devices and no pipes.
const copyScript = `perl=$1 python=$2
shift 2
if command -v perl >/dev/null 2>&1; then exec perl -e "$perl" "$@"; fi
for p in python3 /usr/libexec/platform-python; do
	if command -v "$p" >/dev/null 2>&1; then exec "$p" -c "$python" "$@"; fi
done
echo "the image has no tar, and the host has neither perl nor python3, one of which is needed to copy without it" >&2
exit 127
`

// Perl knows capset by its number alone.
const copyPerl = `use strict; use Fcntl qw(:DEFAULT :mode); use POSIX ();
my ($pid, $id, $what, $path, $how) = @ARGV;
my %capset = (x86_64 => 126, aarch64 => 91, riscv64 => 91, loongarch64 => 91, ppc64le => 184, s390x => 185, i686 => 185, armv7l => 185);
my $nr = $capset{(POSIX::uname())[4]} or die "copying without tar is not known on this kind of machine\n";
chdir("/proc/$pid/root") or die "the container has ended\n";
open(my $c, "<", "/proc/$pid/cgroup") or die "the container has ended\n"; my $cg = join("", <$c>); close($c);
index($cg, $id) >= 0 or die "the container has ended\n";
open(my $s, "<", "/proc/$pid/status") or die "the container has ended\n"; my %st; while (<$s>) { $st{$1} = $2 if /^(\w+):\s*(.*?)\s*$/ } close($s);
my $uid = (split(/\s+/, $st{Uid}))[1]; my $gid = (split(/\s+/, $st{Gid}))[1]; my @groups = split(/\s+/, $st{Groups} // "");
my $caps = hex(substr($st{CapEff}, -16, 8)) * 4294967296 + hex(substr($st{CapEff}, -8));
chroot(".") or die "enter the container's file system: $!\n"; chdir("/");
$) = "$gid " . (@groups ? "@groups" : $gid); $( = $gid; POSIX::setgid($gid);
if ($uid != 0) { POSIX::setuid($uid) or die "become the container's user: $!\n" }
else {
	my ($lo, $hi) = ($caps & 0xffffffff, int($caps / 4294967296)); my $head = pack("LL", 0x20080522, 0); my $data = pack("L6", $lo, $lo, 0, $hi, $hi, 0);
	syscall($nr, $head, $data) == 0 or die "give up capabilities: $!\n";
}
$< == $uid && $> == $uid or die "the container's user could not be taken\n";
umask(0); binmode(STDIN); binmode(STDOUT); my $bad = 0;
sub warned { print STDERR "$_[0]\n"; $bad = 1 }
sub out { my ($b, $o) = ($_[0], 0); while ($o < length($b)) { my $n = syswrite(STDOUT, $b, length($b) - $o, $o); defined $n or die "write: $!\n"; $o += $n } }
sub head {
	my ($name, $mode, $u, $g, $size, $mtime, $type, $link) = @_;
	for (["L", $name], ["K", $link]) { my ($t, $v) = @$_; next if length($v) < 100;
		head("././\@LongLink", 0, 0, 0, length($v) + 1, 0, $t, ""); out($v . "\0" x (512 - length($v) % 512)) }
	my $sz = $size < 8589934592 ? sprintf("%011o\0", $size) : "\x80" . "\0" x 3 . pack("Q>", $size);
	my $num = sub { $_[0] < 2097152 ? sprintf("%07o\0", $_[0]) : "\x80\0\0\0" . pack("N", $_[0]) };
	my $h = pack("a100a8a8a8a12a12A8a1a100a8a32a32a8a8a167", substr($name, 0, 100), sprintf("%07o\0", $mode), $num->($u), $num->($g), $sz,
		sprintf("%011o\0", $mtime < 0 ? 0 : $mtime), "        ", $type, substr($link, 0, 100), "ustar  \0", "", "", "", "", "");
	substr($h, 148, 8) = sprintf("%06o\0 ", unpack("%32C*", $h)); out($h);
}
sub give {
	my ($file, $name) = @_; my @i = lstat($file); if (!@i) { return warned("$file: $!") }
	my ($mode, $u, $g, $t) = ($i[2] & 07777, $i[4], $i[5], $i[9]);
	if (S_ISLNK($i[2])) { my $l = readlink($file); return defined $l ? head($name, 0777, $u, $g, 0, $t, "2", $l) : warned("$file: $!") }
	if (S_ISDIR($i[2])) {
		my $d; head("$name/", $mode, $u, $g, 0, $t, "5", ""); opendir($d, $file) or return warned("$file: $!");
		my @e = sort grep { $_ ne "." && $_ ne ".." } readdir($d); closedir($d);
		give($file eq "/" ? "/$_" : "$file/$_", "$name/$_") for @e; return;
	}
	if (!S_ISREG($i[2])) { print STDERR "$file: not a file, a directory or a link: left out\n"; return }
	my $f; sysopen($f, $file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK) or return warned("$file: $!");
	@i = stat($f); S_ISREG($i[2]) or return warned("$file: it was changed while it was read");
	my $left = $i[7]; head($name, $i[2] & 07777, $u, $g, $left, $t, "0", ""); my $pad = (512 - $left % 512) % 512;
	while ($left > 0) { my $n = sysread($f, my $b, $left < 262144 ? $left : 262144);
		if (!$n) { warned("$file: it became shorter while it was read"); out("\0" x ($left < 65536 ? $left : 65536)), $left -= ($left < 65536 ? $left : 65536) while $left > 0; last }
		out($b); $left -= $n }
	out("\0" x $pad); close($f);
}
sub in { my $want = $_[0]; my $b = ""; while (length($b) < $want) { my $n = sysread(STDIN, $b, $want - length($b), length($b)); defined $n or die "read: $!\n"; $n or die "what was sent ends early\n" } $b }
sub number { my $v = $_[0]; return unpack("Q>", substr($v, -8)) if ord($v) == 0x80 && length($v) == 12; return unpack("N", substr($v, -4)) if ord($v) == 0x80; $v =~ /([0-7]+)/ ? oct($1) : 0 }
sub take {
	my ($dir) = @_; my ($long, $longlink, @dirs); chdir($dir) or die "$dir: $!\n";
	while (1) {
		my $h = in(512); last if $h eq "\0" x 512;
		my ($name, $mode, $u, $g, $size, undef, undef, $type, $link) = unpack("Z100a8a8a8a12a12a8a1Z100", $h);
		($mode, $u, $g, $size) = (number($mode), number($u), number($g), number($size)); my $pad = (512 - $size % 512) % 512;
		if ($type eq "L" || $type eq "K") { my $v = in($size + $pad); $v =~ s/\0.*//s; $type eq "L" ? ($long = $v) : ($longlink = $v); next }
		$name = $long if defined $long; $link = $longlink if defined $longlink; undef $long; undef $longlink; $name =~ s{/+$}{};
		$mode = $how eq "preserve" ? $mode & 07777 : $mode & 0755; my $own = $uid == 0 && $how eq "preserve";
		if ($type eq "5") {
			if (!-d $name) { mkdir($name, 0700) or die "$dir/$name: $!\n" } elsif ($name ne "." && -l $name) { next }
			chown($u, $g, $name) || warned("$dir/$name: owner: $!") if $own; push @dirs, [$name, $mode]; next;
		}
		if (lstat($name)) { die "$dir/$name: it is a directory\n" if -d _; if (!-f _ && !-l _) { die "$dir/$name: not a file: it stays as it is\n" } }
		my $gone = unlink($name) || $!{ENOENT};
		if ($type eq "2") { symlink($link, $name) or die "$dir/$name: $!\n"; next }
		my $f; sysopen($f, $name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | ($gone ? O_CREAT | O_EXCL : 0), 0600) or die "$dir/$name: $!\n";
		-f $f or die "$dir/$name: not a file: it stays as it is\n"; truncate($f, 0);
		my $left = $size; while ($left > 0) { my $b = in($left < 262144 ? $left : 262144); $left -= length($b);
			my $o = 0; while ($o < length($b)) { my $n = syswrite($f, $b, length($b) - $o, $o); defined $n or die "$dir/$name: $!\n"; $o += $n } }
		in($pad) if $pad; chown($u, $g, $f) || warned("$dir/$name: owner: $!") if $own; chmod($mode, $f) || warned("$dir/$name: mode: $!") if $gone; close($f) or die "$dir/$name: $!\n";
	}
	chmod($_->[1], $_->[0]) || warned("$dir/$_->[0]: mode: $!") for reverse @dirs;
	1 while sysread(STDIN, my $rest, 65536);
}
if ($what eq "test") { print -d $path ? "dir\n" : "other\n" }
elsif ($what eq "read") { give($path =~ m{/$} ? ($how eq "." ? $path : "$path$how") : "$path/$how", $how); out("\0" x 1024) }
else { take($path) }
exit($bad);
`

const copyPython = `import ctypes, os, platform, stat, struct, sys
pid, cid, what, path, how = sys.argv[1:6]
def die(text):
    sys.stderr.write(text + "\n"); sys.exit(1)
libc = ctypes.CDLL(None, use_errno=True)
enc = os.fsencode
try:
    os.chdir("/proc/%s/root" % pid)
    with open("/proc/%s/cgroup" % pid) as f:
        if cid not in f.read(): die("the container has ended")
    with open("/proc/%s/status" % pid) as f:
        st = dict(l.rstrip("\n").split(":", 1) for l in f if ":" in l)
except OSError:
    die("the container has ended")
uid, gid = int(st["Uid"].split()[1]), int(st["Gid"].split()[1])
caps = int(st["CapEff"].strip(), 16)
os.chroot("."); os.chdir("/")
os.setgroups([int(g) for g in st["Groups"].split()] or [gid]); os.setresgid(gid, gid, gid)
if uid != 0:
    os.setresuid(uid, uid, uid)
else:
    lo, hi = caps & 0xffffffff, caps >> 32
    head = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0))
    data = ctypes.create_string_buffer(struct.pack("=6I", lo, lo, 0, hi, hi, 0))
    if libc.capset(head, data) != 0: die("give up capabilities: " + os.strerror(ctypes.get_errno()))
os.umask(0)
bad = 0
def warned(name, e):
    global bad
    sys.stderr.write("%s: %s\n" % (os.fsdecode(name), getattr(e, "strerror", None) or e)); bad = 1
def out(b, fd=1):
    v = memoryview(b)
    while v: v = v[os.write(fd, v):]
def number(n, width):
    if n < 8 ** (width - 1): return (b"%0*o\0" % (width - 1, n))
    return b"\x80" + n.to_bytes(width - 1, "big")
def head(name, mode, u, g, size, mtime, kind, link):
    for t, v in ((b"L", name), (b"K", link)):
        if len(v) >= 100:
            head(b"././@LongLink", 0, 0, 0, len(v) + 1, 0, t, b""); out(v + b"\0" * (512 - len(v) % 512))
    h = bytearray(struct.pack("100s8s8s8s12s12s8sc100s8s247x", name[:100], number(mode, 8), number(u, 8), number(g, 8), number(size, 12),
        number(max(0, int(mtime)), 12), b" " * 8, kind, link[:100], b"ustar  \0"))
    h[148:156] = b"%06o\0 " % sum(h)
    out(h)
def give(file, name):
    try:
        i = os.lstat(file)
        if stat.S_ISLNK(i.st_mode): return head(name, 0o777, i.st_uid, i.st_gid, 0, i.st_mtime, b"2", os.readlink(file))
        if stat.S_ISDIR(i.st_mode):
            head(name + b"/", i.st_mode & 0o7777, i.st_uid, i.st_gid, 0, i.st_mtime, b"5", b"")
            for e in sorted(os.listdir(file)): give(os.path.join(file, e), name + b"/" + e)
            return
        if not stat.S_ISREG(i.st_mode):
            sys.stderr.write(os.fsdecode(file) + ": not a file, a directory or a link: left out\n"); return
        fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as e:
        return warned(file, e)
    try:
        i = os.fstat(fd)
        if not stat.S_ISREG(i.st_mode): return warned(file, "it was changed while it was read")
        left = i.st_size
        head(name, i.st_mode & 0o7777, i.st_uid, i.st_gid, left, i.st_mtime, b"0", b"")
        while left > 0:
            b = os.read(fd, min(left, 262144))
            if not b:
                warned(file, "it became shorter while it was read"); b = b"\0" * min(left, 262144)
            out(b); left -= len(b)
        out(b"\0" * (-i.st_size % 512))
    finally:
        os.close(fd)
def into(n):
    b = b""
    while len(b) < n:
        more = os.read(0, n - len(b))
        if not more: die("what was sent ends early")
        b += more
    return b
def field(v):
    if v[0] == 0x80: return int.from_bytes(v[1:], "big")
    v = v.strip(b" \0"); return int(v, 8) if v else 0
def take(d):
    os.chdir(d)
    long = longlink = None
    dirs = []
    while True:
        h = into(512)
        if h == b"\0" * 512: break
        name, link, kind = h[:100].split(b"\0")[0], h[157:257].split(b"\0")[0], h[156:157]
        mode, u, g, size = field(h[100:108]), field(h[108:116]), field(h[116:124]), field(h[124:136])
        pad = -size % 512
        if kind in (b"L", b"K"):
            v = into(size + pad).split(b"\0")[0]
            if kind == b"L": long = v
            else: longlink = v
            continue
        if long is not None: name = long
        if longlink is not None: link = longlink
        long = longlink = None
        name = name.rstrip(b"/")
        mode &= 0o7777 if how == "preserve" else 0o755
        own = uid == 0 and how == "preserve"
        try:
            if kind == b"5":
                if not os.path.isdir(name): os.mkdir(name, 0o700)
                elif os.path.islink(name): continue
                if own: os.chown(name, u, g)
                dirs.append((name, mode)); continue
            try:
                m = os.lstat(name).st_mode
                if stat.S_ISDIR(m): die("%s/%s: it is a directory" % (d, os.fsdecode(name)))
                if not stat.S_ISREG(m) and not stat.S_ISLNK(m): die("%s/%s: not a file: it stays as it is" % (d, os.fsdecode(name)))
            except FileNotFoundError: pass
            gone = True
            try: os.unlink(name)
            except FileNotFoundError: pass
            except OSError: gone = False
            if kind == b"2": os.symlink(link, name); continue
            fd = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | (os.O_CREAT | os.O_EXCL if gone else 0), 0o600)
            if not stat.S_ISREG(os.fstat(fd).st_mode): die("%s/%s: not a file: it stays as it is" % (d, os.fsdecode(name)))
            os.ftruncate(fd, 0)
            while size > 0:
                b = into(min(size, 262144)); size -= len(b); out(b, fd)
            into(pad)
            if own: os.fchown(fd, u, g)
            if gone: os.fchmod(fd, mode)
            os.close(fd)
        except OSError as e:
            die("%s/%s: %s" % (d, os.fsdecode(name), e.strerror))
    for name, mode in reversed(dirs): os.chmod(name, mode)
    while os.read(0, 65536): pass
if what == "test": out(b"dir\n" if os.path.isdir(path) else b"other\n")
elif what == "read":
    give(enc(path if how == "." else os.path.join(path, how)), enc(how)); out(b"\0" * 1024)
else:
    try: take(path)
    except OSError as e: die("%s: %s" % (path, e.strerror))
sys.exit(bad)
`
