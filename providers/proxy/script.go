package proxy

import (
	"berth.dev/berth/api"
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

// putScript takes the rules of one or more services on standard input, as Rules.Text writes them, each with its share in front and
// [textEnd] between them.
//
// The rules as they were lie in 256 files, the shares of services by their names ([shareOf]): so few are written at once when a node gets
// all its services, and a change reads and writes one. What leads from these to the new rules is the change: chains that differ, lines of
// dispatch chains that differ, and nothing else, by one iptables-restore. Only where the files cannot be relied on (the text says so, a
// run was killed, the restore failed) are the dispatch chains read. The names of the chains that change are in the file "pending" from
// before the restore until the new files are in place, so that a run that was killed leaves nothing behind for good.
//
// Many services at once go to iptables-restore while they are read, and with the nft backend, which takes time that grows with the square of
// what it is given, in parts of 250.
//
// Of each family of the cluster there is a text; a line says where the second one begins. They are brought into force one after the other.
//
// It comes with every change of an endpoint on every node: what can be done by the shell alone is, for each program costs a millisecond or more.
const putScript = mark.Check + iptables.Prelude + putAwk + forget + adopt + `
op=$1 count=$2 repair=$3 families=$4
both=$berth_net/put
berth_write_mark
case $families in
"4 6")
	[ -d "$both" ] || mkdir "$both"
	: >"$both/4" >"$both/6"
	awk -v both="$both" 'BEGIN { to = both "/4" } $0 == "` + nextFamily + `" { to = both "/6"; next } { print >to }'
	;;
esac
for family in $families; do
berth_ipt $family
dir=$services t=$berth_net/put$family again=$repair
[ -d "$dir" ] || mkdir "$dir"
[ -d "$t/rules" ] || mkdir -p "$t/rules"
set -- "$t"/rules/*
if [ -e "$1" ]; then rm -f "$@"; fi
part=0 piped=
if [ "$count" -gt 250 ]; then
	rm -f "$t/begun" "$t/done"
	piped="$ipt-restore -w 5 --noflush && : >$t/done"
	case $("$ipt-restore" --version) in *nf_tables*) part=250 ;; esac
fi
set -- "$dir"/*_*.rules
if [ -e "$1" ] || [ -e "$dir/pending" ]; then berth_adopt "$@"; fi
if [ -s "$t/pending" ]; then again=1; fi
: >"$t/live"
if [ "$again" = 1 ]; then
	for table in nat filter; do
		echo "*$table"
		for c in BERTH-SERVICES BERTH-NODEPORTS $([ $table = filter ] || echo BERTH-HEALTH); do
			"$ipt" -w 5 -t $table -S $c 2>/dev/null || [ "$op" = remove ] || exit 79
		done
	done >"$t/live"
fi
case $families in
"4 6") berth_put <"$both/$family" ;;
*) berth_put ;;
esac || { [ "$again" = 1 ] || exit 80; exit 1; }
berth_forget udp
berth_forget tcp --state SYN_SENT
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
if [ -s "$t/still" ]; then mv "$t/still" "$t/pending"; else : >"$t/pending"; fi
done
if [ -e "$both" ]; then rm -rf "$both"; fi
`

// nextFamily stands between the texts of IPv4 and of IPv6.
const nextFamily = "# family"

// putAwk hands the change to iptables-restore, and writes the new files in $t/rules, names of files that go in $t/gone, what is to be
// forgotten in $t/udp and $t/tcp, addresses in $t/hold, and what stays of pending in $t/still. In "pending" a line "NAME TABLE CHAIN" is
// a chain, and so is each line that iptables-restore would make it by, under a line "NAME TABLE", which says by itself that lines of
// dispatch chains change.
const putAwk = `
berth_put() {
	: >"$t/udp" >"$t/tcp" >"$t/hold" >"$t/gone" >"$t/still" >"$t/text"
	awk -v dir="$dir" -v t="$t" -v part=$part -v known=$again -v piped="$piped" '
	function note(which, s) {
		if (s ~ /^# (udp|tcp) /) {
			flow[which, ++flows[which]] = substr(s, 3)
			if (which && s ~ /^# udp/) print substr(s, 7) >(t "/udp")
		} else if (s ~ /^# (hold|leave) /) {
			split(s, w, " ")
			if (which) print w[2], w[3] >(t "/hold")
			addr[which, w[3]] = 1; addrs[which] = w[3]
		}
	}
	# One text, new or old, is in the arrays; which is 1 for new, 0 for old.
	function line(which, s,   c) {
		if (s ~ /^-A /) {
			split(s, w, " ")
			c = table " " w[2]
			if ((which, c) in own) text[which, c] = text[which, c] s "\n"
			else { share[which, ++shared[which]] = c " " s; has[which, c " " s] = 1 }
		} else if (s ~ /^:/) {
			split(s, w, " ")
			c = table " " substr(w[1], 2)
			own[which, c] = 1
			chain[which, ++chains[which]] = c
		} else if (s ~ /^\*/) table = substr(s, 2)
		else note(which, s)
	}
	function reset() {
		split("", own); split("", text); split("", share); split("", has); split("", chain); split("", flow); split("", addr); split("", there)
		chains[0] = chains[1] = shared[0] = shared[1] = flows[0] = flows[1] = 0
		addrs[0] = addrs[1] = table = ""
	}
	function put(s) { if (piped != "") printf "%s", s | piped; else printf "%s", s >(t "/text") }
	function out(tab, s) {
		if (piped != "" && !begun) { begun = 1; print "" >(t "/begun") }
		if (tab == "filter") { filter[++filters] = s; return }
		if (!open) { put("*nat\n"); open = 1 }
		put(s)
	}
	function flush_part(   i) {
		if (pended) fflush(t "/pending")
		if (open) put("COMMIT\n")
		if (filters) { put("*filter\n"); for (i = 1; i <= filters; i++) put(filter[i]); put("COMMIT\n") }
		open = filters = inpart = 0
	}
	function pend(s) { pended = 1; printf "%s %s\n", name, s >>(t "/pending") }
	function mine(rest) {
		return index(rest, "--comment \"" name "\"") || index(rest, "--comment \"" name ":") || index(rest, "--comment \"" name " ")
	}
	# section: what a text has for a table
	function section(tab,   i, s) {
		if (!(i = index(whole, "\n*" tab "\n"))) return ""
		s = substr(whole, i + length(tab) + 2)
		return substr(s, 2, index(s, "\nCOMMIT\n") - 1)
	}
	# load: the texts of a share as they were
	function load(   s, i, n) {
		loaded[in_share] = 1
		if ((getline s <(dir "/" in_share ".rules")) > 0) { # all of it: it holds no end of a text
			n = split(substr(s, 1, length(s) - 1), list, "\n# berth ")
			for (i = 1; i <= n; i++) {
				s = (i > 1 ? "# berth " : "") list[i] "\n"
				split(substr(s, 1, index(s, "\n")), w, " ")
				at[w[3]] = ++count[in_share]
				texts[in_share, count[in_share]] = s
			}
		}
		close(dir "/" in_share ".rules")
	}
	# store: the text that a share has under a name from now on
	function store(s) {
		if (!(name in at)) at[name] = ++count[in_share]
		texts[in_share, at[name]] = s
		if (!(in_share in dirty)) { dirty[in_share] = 1; shares[++changed] = in_share }
	}
	# write: the shares that changed
	function write(   i, j, s, file, some) {
		for (i = 1; i <= changed; i++) {
			s = shares[i]
			file = t "/rules/" s ".rules"
			some = 0
			for (j = 1; j <= count[s]; j++) if (texts[s, j] != "") { some = 1; printf "%s", texts[s, j] >file }
			if (some) close(file)
			else print s ".rules" >(t "/gone")
		}
	}
	# fresh: nothing is known of a service of this name: all of its text goes out as it is
	function fresh(   k, tab, s, n, i) {
		s = substr(whole, 1, index(whole "\n*", "\n*"))
		if (s ~ /\n# (udp|hold|leave) /) {
			reset()
			n = split(s, list, "\n")
			for (i = 2; i <= n; i++) note(1, list[i])
		}
		for (k = 1; k <= 2; k++) {
			tab = k == 1 ? "nat" : "filter"
			if ((s = section(tab)) == "") continue
			i = index("\n" s, "\n-A ")
			pend(tab (i == 1 ? "" : "\n" substr(s, 1, (i ? i : length(s) + 1) - 2)))
			out(tab, s)
		}
	}
	# change: the text called name is read. The old one is in its share, and the difference goes out.
	function change(   old, i, n) {
		done[name] = 1
		if (!(in_share in loaded)) load()
		old = (name in at) ? texts[in_share, at[name]] : ""
		repair = known
		if (i = index(whole, "\n# repair\n")) { repair = 1; whole = substr(whole, 1, i) substr(whole, i + 10) }
		if (old == "" && !repair && !(name in pendings)) fresh()
		else {
			reset()
			n = split(old, list, "\n")
			for (i = 2; i <= n; i++) line(0, list[i])
			table = ""
			n = split(whole, list, "\n")
			for (i = 2; i <= n; i++) line(1, list[i])
			differ()
			forget()
			if (addrs[0] != "" && !((1, addrs[0]) in addr)) print "leave", addrs[0] >(t "/hold")
		}
		if (hash == "-") whole = ""
		if (whole != old) store(whole)
		if (part && ++inpart >= part) flush_part()
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
					if (((1, c) in has) && !(c in there)) there[c] = 1
					else rules = rules "-D" substr(rest, 3) "\n" # of one that is there twice it takes one away
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
			if (decl drop == "" && rules != "") pend(tab)
			if (decl rules drop != "") out(tab, decl rules drop)
		}
	}
	# forget: notes a port that the service no longer has without endpoints, and of TCP one that has lost some, or may have
	function forget(   i, j, k, n, m, found, lost, v, x) {
		for (i = 1; i <= flows[0]; i++) {
			n = split(flow[0, i], w, " ")
			found = 0
			for (j = 1; j <= flows[1] && !found; j++) {
				m = split(flow[1, j], v, " ")
				if (v[1] != w[1] || v[2] != w[2] || v[3] != w[3]) continue
				found = 1; lost = 0
				split("", x)
				for (k = 4; k <= m; k++) x[v[k]] = 1
				for (k = 4; k <= n; k++) if (!(w[k] in x)) lost = 1
				if (lost && w[1] == "tcp") remember(flow[1, j])
			}
			if (!found) print w[2], w[3], "-" >(t "/" w[1])
		}
		for (j = 1; j <= flows[1] && repair; j++) if (flow[1, j] ~ /^tcp /) remember(flow[1, j])
	}
	function remember(s) { print substr(s, 5) (split(s, w, " ") > 3 ? "" : " -") >(t "/tcp") }
	what == "live" {
		if (/^\*/) table = substr($1, 2)
		else if (/^-A /) live[table, ++lives[table]] = $0
		next
	}
	what == "pending" {
		if (/^:/) c = whose_table " " substr($1, 2)
		else { whose = $1; whose_table = $2; c = $2 " " $3 }
		if (NF > 2) pending[whose, ++pendings[whose]] = c
		left[++lefts] = NF > 2 ? whose " " c : $0; left_of[lefts] = whose
		next
	}
	{
		in_share = substr($0, 1, 2); whole = substr($0, 4)
		split(substr(whole, 1, index(whole, "\n")), w, " ")
		name = w[3]; hash = w[4]
		change()
	}
	END {
		for (i = 1; i <= lefts; i++) if (!(left_of[i] in done)) print left[i] >(t "/still")
		flush_part()
		if (begun) fflush(piped) # it works while the files are written
		write()
		if (begun) close(piped)
	}
	' what=live "$t/live" what=pending $([ ! -s "$t/pending" ] || echo "$t/pending") what= 'RS=\001' - || return
	if [ -n "$piped" ]; then
		[ ! -e "$t/begun" ] || [ -e "$t/done" ]
	elif [ -s "$t/text" ]; then
		"$ipt-restore" -w 5 --noflush <"$t/text"
	fi
}
`

// forget makes the kernel forget what leads packets on to endpoints that are gone, or to none: of UDP what it remembers of senders, semantics.md
// 4.4; of TCP connections that nobody has answered yet, whose next attempt then goes where the rules lead. Established ones are left alone.
const forget = `
# berth_forget PROTOCOL [WHICH...]: $t/PROTOCOL has the endpoints of each port
berth_forget() {
	[ -s "$t/$1" ] || return 0
	if ! command -v conntrack >/dev/null; then
		[ "$1" != udp ] || echo no conntrack
		return 0
	fi
	conntrack -L -f "ipv$fam" -p "$@" >"$t/senders" 2>/dev/null || :
	[ -s "$t/senders" ] || return 0
	ip -"$fam" -o addr show | awk '{ sub(/\/.*/, "", $4); print "here", $4 }' >"$t/here"
	awk '
	what == "here" { here[$2] = 1; next }
	what == "ends" {
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
	}' what=here "$t/here" what=ends "$t/$1" what= "$t/senders" | sort -u | while read -r dst port from; do
		conntrack -D -f "ipv$fam" -p "$@" --orig-dst "$dst" --orig-port-dst "$port" --reply-src "$from" >/dev/null 2>&1 || :
	done
}
`

// adopt takes over what an earlier version of Berth has left: a file for each service, NAMESPACE_NAME.rules, and "pending" beside them. It is
// killed at any point and goes on from there.
const adopt = `
# berth_adopt FILE...: puts texts of single services into their shares, and what "pending" says with the rest
berth_adopt() {
	if [ -e "$dir/pending" ]; then
		cat "$dir/pending" >>"$t/pending"
		rm -f "$dir/pending"
	fi
	if [ -e "$dir/new" ]; then rm -rf "$dir/new"; fi
	for old in "$@"; do
		[ -e "$old" ] || continue
		read -r hash_sign berth name hash <"$old" || :
		share=$(printf %s "$name" | sha256sum)
		share=$dir/${share%"${share#??}"}.rules
		if [ -e "$share" ] && grep -q "^# berth $name " "$share"; then
			# It was set beside the old file: lines of dispatch chains may be there twice.
			awk -v name="$name" '/^\*/ { print name, substr($1, 2) } /^:/' "$old" >>"$t/pending"
		else
			if [ -e "$share" ]; then cat "$share" "$old" >"$t/share"; else cat "$old" >"$t/share"; fi
			mv "$t/share" "$share"
		fi
		rm -f "$old"
		if grep -q "^# ` + api.NoteHealth + ` " "$share"; then # the DNS server has closed the port with the old file: it reads the share again
			cat "$share" >"$t/share"
			mv "$t/share" "$share"
		fi
	done
}
`
