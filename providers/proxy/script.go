package proxy

import (
	"berth.dev/berth/providers/internal/iptables"
	"berth.dev/berth/providers/internal/mark"
)

const (
	// noteRepair in a text of rules says that nothing is known of what is in force of them.
	noteRepair = "repair"
	// hashOfNone in a text's head says that the service's rules are to go.
	hashOfNone = "-"
)

// textEnd stands between two texts on standard input: a byte that is in none of them.
const textEnd = "\x01"

// putScript takes the rules of one or more services on standard input, as Rules.Text writes them, with [textEnd] between them.
//
// The rules as they were lie in a file for each service. What leads from these to the new ones is the change: chains that differ, lines of
// dispatch chains that differ, and nothing else, by one iptables-restore. Only where the files cannot be relied on (the text says so, a
// run was killed, the restore failed) are the dispatch chains read. The names of the chains that change are in the file "pending" from
// before the restore until the new files are in place, so that a run that was killed leaves nothing behind for good.
//
// Many services at once are brought into force in parts of 250 with the nft backend, which takes time that grows with the square of what it is given.
//
// Of each family of the cluster there is a text; a line says where the second one begins. They are brought into force one after the other.
const putScript = mark.Check + iptables.Prelude + putAwk + `
op=$1 count=$2 repair=$3 families=$4
all=$berth_net/put
mkdir -p "$berth_net"
case $families in
"4 6")
	rm -rf "$all"
	mkdir "$all"
	awk -v all="$all" 'BEGIN { to = all "/4" } $0 == "` + nextFamily + `" { to = all "/6"; next } { print >to }'
	;;
esac
berth_write_mark
for family in $families; do
berth_ipt $family
dir=$services t=$services/new again=$repair
if [ -e "$t" ]; then rm -rf "$t"; fi
mkdir -p "$t/rules"
case $families in
"4 6") mv "$all/$family" "$t/in" ;;
*) cat >"$t/in" ;;
esac
part=0
if [ "$count" -gt 250 ]; then
	case $("$ipt-restore" --version) in *nf_tables*) part=250 ;; esac
fi
: >"$t/live"
if [ -s "$dir/pending" ]; then again=1; fi
if [ "$again" = 0 ]; then
	berth_put 2>"$t/errors"
	berth_done || again=1
fi
if [ "$again" = 1 ]; then
	rm -f "$t/begun" "$t/done"
	for table in nat filter; do
		echo "*$table"
		for c in BERTH-SERVICES BERTH-NODEPORTS $([ $table = filter ] || echo BERTH-HEALTH); do
			"$ipt" -w 5 -t $table -S $c 2>/dev/null || [ "$op" = remove ] || exit 78
		done
	done >"$t/live"
	berth_put
	berth_done || exit 1
fi
` + forget + `
if [ -s "$t/hold" ]; then
	while read -r what ip; do
		case $what in
		` + iptables.NoteHold + `) berth_hold "$ip" ;;
		*) berth_leave "$ip" ;;
		esac
	done <"$t/hold"
fi
set -- "$t"/rules/*
if [ -e "$1" ]; then mv "$@" "$dir"; fi
if [ -s "$t/gone" ]; then (cd "$dir" && xargs rm -f <"$t/gone"); fi
if [ -s "$t/still" ]; then mv "$t/still" "$dir/pending"; elif [ -e "$dir/pending" ]; then rm -f "$dir/pending"; fi
rm -rf "$t"
done
if [ -e "$all" ]; then rm -rf "$all"; fi
`

// nextFamily stands between the texts of IPv4 and of IPv6.
const nextFamily = "# family"

// putAwk hands the change to iptables-restore, and writes the new files in $t/rules, names of files that go in $t/gone, what UDP and addresses need in $t/udp and
// $t/hold.
const putAwk = `
berth_done() { [ ! -e "$t/begun" ] || [ -e "$t/done" ]; }
berth_put() {
	: >"$t/udp"
	: >"$t/hold"
	: >"$t/gone"
	: >"$t/still"
	awk -v dir="$dir" -v t="$t" -v part=$part -v known=$again -v restore="$ipt-restore -w 5 --noflush && : >$t/done" '
	# One text, new or old, is in the arrays; which is 1 for new, 0 for old.
	function line(which, s,   c) {
		if (s ~ /^-A /) {
			split(s, w, " ")
			c = table " " w[2]
			if ((which, c) in own) text[which, c] = text[which, c] s "\n"
			else { n = ++shared[which]; share[which, n] = c " " s; has[which, c " " s] = 1 }
		} else if (s ~ /^:/) {
			split(s, w, " ")
			c = table " " substr(w[1], 2)
			own[which, c] = 1
			chain[which, ++chains[which]] = c
		} else if (s ~ /^\*/) table = substr(s, 2)
		else if (s ~ /^# udp /) { if (which) print substr(s, 7) >(t "/udp"); udp[which, ++udps[which]] = substr(s, 7) }
		else if (s ~ /^# (hold|leave) /) { split(s, w, " "); if (which) print w[2], w[3] >(t "/hold"); addr[which, w[3]] = 1; addrs[which] = w[3] }
		else if (s == "# repair") repair = 1
	}
	function reset() {
		split("", own); split("", text); split("", share); split("", has); split("", chain); split("", udp); split("", addr)
		chains[0] = chains[1] = shared[0] = shared[1] = udps[0] = udps[1] = 0
		addrs[0] = addrs[1] = ""
		repair = known
	}
	function out(tab, s) { if (!begun) { begun = 1; print "" >(t "/begun") } if (tab == "nat") { if (!open) { print "*nat" | restore; open = 1 } printf "%s", s | restore } else filter = filter s; changed = 1 }
	function flush_part() {
		if (open) print "COMMIT" | restore
		if (filter != "") printf "*filter\n%sCOMMIT\n", filter | restore
		open = 0; filter = ""; inpart = 0
	}
	function pend(c) { open_pending = 1; print name, c >>(dir "/pending") }
	function mine(rest) {
		return index(rest, "--comment \"" name "\"") || index(rest, "--comment \"" name ":") || index(rest, "--comment \"" name " ")
	}
	# section: what a text has for a table
	function section(tab,   i, s) {
		if (!(i = index(whole, "\n*" tab "\n"))) return ""
		s = substr(whole, i + length(tab) + 2)
		return substr(s, 2, index(s, "\nCOMMIT\n") - 1)
	}
	# fresh: nothing is known of a service of this name: all of its text goes out as it is
	function fresh(   k, tab, s, n, i) {
		for (k = 1; k <= 2; k++) {
			tab = k == 1 ? "nat" : "filter"
			if ((s = section(tab)) == "") continue
			n = split(s, part_lines, "\n")
			for (i = 1; i <= n && part_lines[i] ~ /^:/; i++) pend(tab " " substr(part_lines[i], 2, index(part_lines[i], " ") - 2))
			out(tab, s)
		}
	}
	# change: the text called name is read. Old rules are read from its file, then the difference goes out.
	function change(   file, s, i, n, c, k, tab, old, rest, decl, rules, drop) {
		done[name] = 1
		file = name; sub(/\//, "_", file)
		table = ""; old = 0
		if ((getline s <(dir "/" file ".rules")) > 0) { # all of it: it holds no end of a text
			old = 1
			n = split(s, text_lines, "\n")
			for (i = 2; i <= n; i++) line(0, text_lines[i])
		}
		close(dir "/" file ".rules")
		table = ""
		n = split(whole, text_lines, "\n")
		for (i = 2; i <= n; i++) {
			if (text_lines[i] ~ /^\*/ && !old && !repair && !pendings[name]) break
			line(1, text_lines[i])
		}
		if (sub(/\n# repair\n/, "\n", whole)) repair = 1
		if (old || repair || pendings[name]) differ()
		else fresh()
		split("", there)
		for (i = 1; i <= udps[0]; i++) { split(udp[0, i], w, " "); gone_udp(w[1], w[2]) }
		if (addrs[0] != "" && !((1, addrs[0]) in addr)) print "leave", addrs[0] >(t "/hold")
		if (hash == "-") print file ".rules" >(t "/gone")
		else { printf "%s", whole >(t "/rules/" file ".rules"); close(t "/rules/" file ".rules") }
		if (part && ++inpart >= part) { if (open_pending) fflush(dir "/pending"); flush_part() }
	}
	# differ: what leads from the old rules to the new ones
	function differ(   i, c, k, tab, rest, decl, rules, drop) {
		for (i = 1; i <= pendings[name]; i++) { c = pending[name, i]; if (!((0, c) in own)) { own[0, c] = 1; chain[0, ++chains[0]] = c } }
		for (k = 1; k <= 2; k++) {
			tab = k == 1 ? "nat" : "filter"
			decl = ""; rules = ""; drop = ""
			for (i = 1; i <= chains[1]; i++) {
				c = chain[1, i]
				if (index(c, tab " ") != 1) continue
				if (!repair && ((0, c) in own) && text[0, c] == text[1, c]) continue
				pend(c)
				decl = decl ":" substr(c, length(tab) + 2) " - [0:0]\n"
				rules = rules text[1, c]
			}
			for (i = 1; i <= chains[0]; i++) {
				c = chain[0, i]
				if (index(c, tab " ") != 1 || ((1, c) in own)) continue
				pend(c)
				decl = decl ":" substr(c, length(tab) + 2) " - [0:0]\n"
				drop = drop "-X " substr(c, length(tab) + 2) "\n"
			}
			if (repair) {
				for (i = 1; i <= lives[tab]; i++) {
					rest = live[tab, i]
					if (!mine(rest)) continue
					split(rest, w, " ")
					c = tab " " w[2] " " rest
					if ((1, c) in has) there[c] = 1
					else rules = rules "-D" substr(rest, 3) "\n"
				}
			} else for (i = 1; i <= shared[0]; i++) {
				if (index(share[0, i], tab " ") != 1) continue
				if ((1, share[0, i]) in has) there[share[0, i]] = 1
				else { rest = share[0, i]; sub(/^[^ ]* [^ ]* /, "", rest); rules = rules "-D" substr(rest, 3) "\n" }
			}
			for (i = 1; i <= shared[1]; i++) {
				if (index(share[1, i], tab " ") != 1 || (share[1, i] in there)) continue
				rest = share[1, i]; sub(/^[^ ]* [^ ]* /, "", rest)
				rules = rules rest "\n"
			}
			if (decl rules drop != "") out(tab, decl rules drop)
		}
	}
	# gone_udp: a port that the service no longer has is noted without endpoints
	function gone_udp(to, port,   i, v) {
		for (i = 1; i <= udps[1]; i++) { split(udp[1, i], v, " "); if (v[1] == to && v[2] == port) return }
		print to, port, "-" >(t "/udp")
	}
	FILENAME == t "/live" {
		if (/^\*/) table = substr($1, 2)
		else if (/^-A /) live[table, ++lives[table]] = $0
		next
	}
	FILENAME != t "/in" { left[++lefts] = $0; if (NF == 3) pending[$1, ++pendings[$1]] = $2 " " $3; next }
	{ reset(); whole = $0; split(substr(whole, 1, index(whole, "\n")), w, " "); name = w[3]; hash = w[4]; change() }
	END { for (i = 1; i <= lefts; i++) { split(left[i], w, " "); if (!(w[1] in done)) print left[i] >(t "/still") } if (open_pending) { fflush(dir "/pending"); close(dir "/pending") } flush_part(); close(restore) }
	' "$t/live" $([ ! -s "$dir/pending" ] || echo "$dir/pending") 'RS=\001' "$t/in"
}
`

// forget makes the kernel forget what it remembers of UDP senders whose packets go on to endpoints that are gone, or to none: semantics.md 4.4.
const forget = `
if [ -s "$t/udp" ]; then
	if ! command -v conntrack >/dev/null; then
		echo no conntrack
	else
		ip -"$fam" -o addr show | awk '{ sub(/\/.*/, "", $4); print "here", $4 }' >"$t/here"
		conntrack -L -f "ipv$fam" -p udp 2>/dev/null | awk '
		FILENAME != "-" && $1 == "here" { here[$2] = 1; next }
		FILENAME != "-" {
			if (NF < 3) next # no endpoints now: what there was is left alone
			to = $1 " " $2
			known[to] = 1
			for (i = 3; i <= NF; i++) end[to, $i] = 1
			next
		}
		{
			n = dst = port = from = ""
			for (i = 1; i <= NF; i++) {
				if ($i ~ /^dst=/ && dst == "") dst = substr($i, 5)
				if ($i ~ /^dport=/ && port == "") port = substr($i, 7)
				if ($i ~ /^src=/ && ++n == 2) from = substr($i, 5)
			}
			to = dst " " port
			if (!(to in known) && (dst in here)) to = "node " port
			if ((to in known) && !((to, from) in end)) print dst, port, from
		}' "$t/here" "$t/udp" - | sort -u | while read -r dst port from; do
			conntrack -D -f "ipv$fam" -p udp --orig-dst "$dst" --orig-port-dst "$port" --reply-src "$from" >/dev/null 2>&1 || :
		done
	fi
fi
`
