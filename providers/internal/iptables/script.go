package iptables

import "berth.dev/berth/api"

// Prelude is shell text with the functions that bring rules into force. It needs $berth_net, the folder of our network files.
// It contains nothing that runs by itself.
const Prelude = pick + compare + compose + together + sweep + hold

// pick chooses the backend. Rules of two backends on one host work against each other, so it is the one that carries rules
// already, and once chosen it stays.
const pick = `
# berth_ipt [FAMILY]: sets $ipt to iptables, iptables-nft or iptables-legacy, for family 6 to ip6tables and so on; $fam to the family, and
# $static and $services to where its texts lie
berth_ipt() {
	fam=${1:-4} static=$berth_net/static.rules services=$berth_net/services
	berth_backend || return 1
	ipt=$ipt4
	if [ $fam = 6 ]; then
		ipt=ip6${ipt4#ip} static=$berth_net/static6.rules services=$berth_net/services6
		command -v "$ipt-restore" >/dev/null || { echo "$ipt is not installed: run berth node prepare" >&2; return 1; }
	fi
}
# berth_backend: sets $ipt4
berth_backend() {
	ipt4=
	if [ -s "$berth_net/backend" ]; then read -r ipt4 <"$berth_net/backend"; fi
	if [ -n "$ipt4" ] && command -v "$ipt4-restore" >/dev/null; then return 0; fi
	ipt4=iptables legacy=0 nft=0
	if grep -q . /proc/net/ip_tables_names 2>/dev/null && command -v iptables-legacy-save >/dev/null; then
		legacy=$(iptables-legacy-save 2>/dev/null | grep -c '^-A') || :
	fi
	if command -v iptables-nft-save >/dev/null; then
		nft=$(iptables-nft-save 2>/dev/null | grep -c '^-A') || :
	fi
	if [ "$legacy" -gt 0 ] && [ "$nft" -eq 0 ]; then ipt4=iptables-legacy; fi
	if [ "$nft" -gt 0 ] && [ "$legacy" -eq 0 ]; then ipt4=iptables-nft; fi
	command -v "$ipt4-restore" >/dev/null || { echo "iptables is not installed: run berth node prepare" >&2; return 1; }
}
# berth_dump: what is in force, as iptables-save prints it
berth_dump() {
	ip -$fam -o addr show | awk '{ sub(/\/.*/, "", $4); print "here", $4 }'
	"$ipt-save" -t nat && "$ipt-save" -t filter
}
# berth_restore FILE: brings a text into force, one table at a time, each at once
berth_restore() {
	[ -s "$1" ] || return 0
	"$ipt-restore" -w 5 --noflush <"$1"
}
`

// compare finds out which texts are in force.
const compare = `
# berth_live RULES... <DUMP: prints "name hash" of each text all of whose rules are in force
berth_live() {
	awk '
	function same(s,   i, v) { # probabilities are printed differently by different versions
		if (i = index(s, "--probability ")) {
			v = substr(s, i + 14); sub(/ .*/, "", v)
			s = substr(s, 1, i + 13) sprintf("%.5f", v) substr(s, i + 14 + length(v))
		}
		return s
	}
	/^# berth / { name = $3; hash[name] = $4; names[++n] = name; next }
	/^# hold / { held[name] = $3; next }
	/^# leave / { left[name] = $3; next }
	live && /^here / { here[$2] = 1; next }
	/^# need / { lines[name, ++k[name]] = $3 " :" $4; next }
	/^#/ || /^COMMIT/ { next }
	/^\*/ { table = substr($1, 2); next }
	/^:/ {
		c = table " " substr($1, 2)
		if (live) { there[c] = 1; line[table " " $1] = 1 } else { owner[c] = name; owned[name, ++m[name]] = c }
		next
	}
	/^-A / {
		c = table " " $2; s = same($0)
		if (!live) {
			if ((c in owner) && owner[c] == name) want[c] = want[c] s "\n"
			else { lines[name, ++k[name]] = table " " s; shared[name]++ }
		} else if (c in owner) text[c] = text[c] s "\n"
		else {
			line[table " " s] = 1
			if ($2 ~ /^BERTH-(SERVICES|NODEPORTS|HEALTH)$/ && match(s, /--comment "[^" :]+/)) seen[substr(s, RSTART + 11, RLENGTH - 11)]++
		}
	}
	END {
		for (i = 1; i <= n; i++) {
			name = names[i]; ok = 1
			for (j = 1; j <= m[name]; j++) { c = owned[name, j]; if (!(c in there) || text[c] != want[c]) ok = 0 }
			for (j = 1; j <= k[name]; j++) if (!(lines[name, j] in line)) ok = 0
			if ((name in held) && !(held[name] in here) || (name in left) && (left[name] in here)) ok = 0
			if (name != "static" && seen[name] + 0 != shared[name] + 0) ok = 0
			if (ok) print name, hash[name]
		}
	}' "$@" live=1 -
}
`

// compose makes the text for iptables-restore that leads from what is in force to what should be.
const compose = `
# berth_compose STALE RULES <LIVE: prints the change. STALE holds lines "table chain" of chains to take away. LIVE holds at least
# the dispatch chains and, for the static text, the chains of others. With $rebuild=1 dispatch chains are emptied.
berth_compose() {
	awk -v rebuild="${rebuild:-0}" '
	function add(t, part, s) { out[t, part] = out[t, part] s "\n"; touched[t] = 1 }
	live {
		if (/^\*/) table = substr($1, 2)
		else if (/^:/) there[table " " substr($1, 2)] = 1
		else if (/^-N /) there[table " " $2] = 1
		else if (/^-A /) { now[++l] = table " " $0 }
		next
	}
	stale { add($1, 1, ":" $2 " - [0:0]"); add($1, 5, "-X " $2); next }
	/^# berth / { name = $3; next }
	/^# need / { if (rebuild || !(($3 " " $4) in there)) add($3, 1, ":" $4 " - [0:0]"); next }
	/^#/ || /^COMMIT/ { next }
	/^\*/ { table = substr($1, 2); next }
	/^:/ { own[table " " substr($1, 2)] = 1; add(table, 1, $0); next }
	/^-A / { if ((table " " $2) in own) add(table, 2, $0); else { wanted[table " " $0] = 1; shared[++s] = table " " $0 } }
	function mine(rest,   c) { # is a line of a shared chain one of this text?
		split(rest, c, " ")
		if (name == "static") return c[2] !~ /^BERTH-/ && rest ~ / -j BERTH-/
		if (c[2] !~ /^BERTH-(SERVICES|NODEPORTS|HEALTH)$/) return 0
		return index(rest, "--comment \"" name "\"") || index(rest, "--comment \"" name ":") || index(rest, "--comment \"" name " ")
	}
	END {
		for (i = 1; i <= l; i++) {
			t = now[i]; rest = t; sub(/ .*/, "", t); sub(/^[^ ]* /, "", rest)
			have[now[i]] = 1
			if (mine(rest) && !(now[i] in wanted)) add(t, 3, "-D" substr(rest, 3))
		}
		for (i = 1; i <= s; i++) {
			if (shared[i] in have) continue
			t = shared[i]; rest = t; sub(/ .*/, "", t); sub(/^[^ ]* /, "", rest)
			add(t, 4, (rest ~ /^-A BERTH-/ ? "-A" : "-I") substr(rest, 3))
		}
		split("nat filter", tables, " ")
		for (i = 1; i <= 2; i++) {
			t = tables[i]
			if (t in touched) printf "*%s\n%s%s%s%s%sCOMMIT\n", t, out[t, 1], out[t, 2], out[t, 3], out[t, 4], out[t, 5]
		}
	}' live=1 - live=0 stale=1 "$1" stale=0 "$2"
}
`

// together joins many texts into few, for a host that has none of them in force.
const together = `
# berth_restore_all RULES...: brings texts into force whose dispatch chains are empty. In parts: the nft backend takes
# time that grows with the square of what it is given at once.
berth_restore_all() {
	awk '
	function flush_part(   k, i, tab) {
		for (k = 1; k <= 2; k++) {
			tab = k == 1 ? "nat" : "filter"
			if (lines[tab]) print "*" tab
			for (i = 1; i <= lines[tab]; i++) print line[tab, i]
			if (lines[tab]) print "COMMIT"
			lines[tab] = 0
		}
		taken = 0
	}
	/^# berth / && ++taken > 250 { flush_part(); taken = 1 }
	/^#/ || /^COMMIT/ { next }
	/^\*/ { table = substr($1, 2); next }
	{ line[table, ++lines[table]] = $0 }
	END { flush_part() }' "$@" | "$ipt-restore" -w 5 --noflush
}
`

const sweep = `
# berth_sweep TABLE PATTERN: takes away the chains with these names and every jump to them
berth_sweep() {
	swept=$(mktemp ` + api.Scratch + `)
	"$ipt-save" -t "$1" | awk -v table="$1" -v pattern="$2" '
	/^:/ { c = substr($1, 2); if (c ~ pattern) { declare = declare ":" c " - [0:0]\n"; drop = drop "-X " c "\n" } }
	/^-A / && $2 !~ pattern { for (i = 3; i < NF; i++) if (($i == "-j" || $i == "-g") && $(i + 1) ~ pattern) jumps = jumps "-D" substr($0, 3) "\n" }
	END { if (declare != "") printf "*%s\n%s%s%sCOMMIT\n", table, declare, jumps, drop }' >"$swept"
	berth_restore "$swept" || { rm -f "$swept"; return 1; }
	rm -f "$swept"
}
`
