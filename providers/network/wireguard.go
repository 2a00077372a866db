package network

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/mark"
)

// keyFile in api.NetworkDir is the node's private key, for root alone. It is made on the node and read by nobody but wg there: what leaves
// the node is the public key.
const keyFile = "wireguard.key"

// keySize is that of a key of Curve25519, in bytes.
const keySize = 32

// checkKey refuses what is no public key. Base64 is decoded past ends of lines, so that its length counts too.
func checkKey(s string) error {
	if b, err := base64.StdEncoding.DecodeString(s); err != nil || len(b) != keySize || len(s) != base64.StdEncoding.EncodedLen(keySize) {
		return fmt.Errorf("public key %q: not a key of WireGuard", s)
	}
	return nil
}

// key sees to it that the node has a key, and tells the public one.
func (p *Provider) key(ctx context.Context, h providers.Host, w *providers.Work) (providers.Result, error) {
	args, err := mark.Args(w)
	if err != nil {
		return providers.Result{}, fmt.Errorf("make a key on %s: %w", h.Name(), err)
	}
	out, err := h.Run(ctx, providers.Command{Script: keyScript, Args: args})
	if err != nil {
		return providers.Result{}, fmt.Errorf("make a key on %s: %w", h.Name(), mark.Err(h, err))
	}
	public := strings.TrimSpace(string(out.Stdout))
	if err := checkKey(public); err != nil {
		return providers.Result{}, fmt.Errorf("make a key on %s: %w", h.Name(), err)
	}
	return providers.Result{Node: &api.NodeState{PublicKey: public}}, nil
}

// keyScript prints the public key, of a new private one where there is none that wg can read. The new one is in place before it is told.
const keyScript = `berth_mark_absent=ok
` + mark.Check + `
berth_write_mark
command -v wg >/dev/null || { echo "the program wg is not installed: install the package wireguard-tools" >&2; exit 1; }
key=$berth_net/` + keyFile + `
if ! public=$(wg pubkey <"$key" 2>/dev/null); then
	umask 077
	wg genkey >"$key.new"
	sync "$key.new" 2>/dev/null || sync
	mv "$key.new" "$key"
	public=$(wg pubkey <"$key" 2>/dev/null) || { echo "wg takes no key from $key" >&2; exit 1; }
fi
echo "$public"
`

// wireGuardSight has the shell functions that compare the device with what it should be. To where the packets of a peer go is not compared:
// WireGuard follows a peer that comes from another address, and the next change of the network puts it right.
const wireGuardSight = `
# berth_wg_right: is berth-wg there with this node's key, port, size and addresses?
berth_wg_right() {
	[ "$(wg show berth-wg public-key 2>/dev/null)" = "$(wg pubkey <"$berth_net/` + keyFile + `" 2>/dev/null)" ] || return 1
	[ "$(wg show berth-wg listen-port 2>/dev/null)" = ` + api.WireGuardPort + ` ] || return 1
	berth_wg_set
}
berth_wg_set() {
	case $(echo $(ip link show dev berth-wg)) in
	*",UP"*" mtu $mtu "*) ;;
	*) return 1 ;;
	esac
	berth_addressed berth-wg
}
# berth_wg_wanted: "key network" of each peer and family, sorted
berth_wg_wanted() { awk '{ print $3, $1 }' "$berth_net/peers" | sort; }
berth_wg_live() { wg show berth-wg allowed-ips | awk '{ for (i = 2; i <= NF; i++) print $1, $i }' | sort; }
`

// wireGuard makes the device. Peers that stay as they are keep their sessions.
const wireGuard = wireGuardSight + `
berth_wireguard() {
	[ -s "$berth_net/` + keyFile + `" ] || { echo "the node's key $berth_net/` + keyFile + ` is gone: apply makes another" >&2; return 1; }
	if ! ip link show dev berth-wg >/dev/null 2>&1; then
		ip link add berth-wg type wireguard
		ip link set berth-wg addrgenmode none 2>/dev/null || :
		# Replies may come another way than the routes say.
		echo 2 >/proc/sys/net/ipv4/conf/berth-wg/rp_filter
	fi
	# wg quotes a line that it cannot read, and so could the key: only what the kernel answers is told.
	berth_wg_said=$(berth_wg_config | wg syncconf berth-wg /dev/stdin 2>&1) || {
		echo "wg refuses the configuration of berth-wg. $(printf '%s\n' "$berth_wg_said" | grep '^Unable to ')" >&2
		return 1
	}
	if ! berth_wg_set; then
		ip link set berth-wg mtu "$mtu" up
		berth_address berth-wg
	fi
}
# berth_wg_config: prints what wg syncconf takes, into a pipe: the private key is in no argument (printf is the shell's own) and in no second file
berth_wg_config() {
	printf '[Interface]\nListenPort = ` + api.WireGuardPort + `\nPrivateKey = %s\n' "$(cat "$berth_net/` + keyFile + `")"
	awk '
	!($3 in to) { to[$3] = $2; order[++n] = $3 }
	{ nets[$3] = nets[$3] "AllowedIPs = " $1 "\n" }
	END {
		for (i = 1; i <= n; i++) {
			ip = to[order[i]]
			if (index(ip, ":")) ip = "[" ip "]"
			printf "[Peer]\nPublicKey = %s\nEndpoint = %s:` + api.WireGuardPort + `\n%s", order[i], ip, nets[order[i]]
		}
	}' "$berth_net/peers"
}
`
