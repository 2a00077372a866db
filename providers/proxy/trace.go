package proxy

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/iptables"
)

// Packet is the first packet of a connection.
type Packet struct {
	From     netip.Addr
	To       netip.Addr
	Port     uint16
	Protocol string // "tcp", "udp", "sctp"
}

// Trace is what the rules of a host do with a packet.
type Trace struct {
	// Rules are those that the packet meets on its way to a verdict, in iptables' own words, without those of the choice among endpoints.
	Rules []string `json:"rules"`
	// Ends are where it may go, each with its chance. None when Verdict is set.
	Ends []TraceEnd `json:"ends,omitempty"`
	// Verdict is DROP or REJECT; "" when the packet goes somewhere, or no rule of ours is about it.
	Verdict string `json:"verdict,omitempty"`
}

// TraceEnd is an endpoint that a packet may be sent to.
type TraceEnd struct {
	To         string   `json:"to"` // IP and port
	Chance     float64  `json:"chance"`
	Masquerade bool     `json:"masquerade,omitempty"` // it gets there with the node's address
	Rules      []string `json:"rules"`
}

// Live reads the rules of a family in force on a host, as iptables-save prints them, and the addresses that it has.
func Live(ctx context.Context, h providers.Host, f corev1.IPFamily) (string, error) {
	family := "4"
	if f == corev1.IPv6Protocol {
		family = "6"
	}
	out, err := h.Run(ctx, providers.Command{Script: "PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin\nberth_net=" + api.NetworkDir + "\n" + iptables.Prelude + "berth_ipt \"$1\" && berth_dump", Args: []string{family}})
	if err != nil {
		return "", fmt.Errorf("read the rules of %s: %w", h.Name(), err)
	}
	return string(out.Stdout), nil
}

// Follow walks through the rules of a dump that [Live] gave with a packet that a pod sends: nat PREROUTING's part of ours, then filter
// FORWARD's. Only rules of Berth's are followed.
func Follow(dump string, p Packet) Trace {
	f := follower{packet: p, chains: map[string][]string{}, here: map[string]bool{}}
	table := ""
	for line := range strings.Lines(dump) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "*"):
			table = line[1:]
		case strings.HasPrefix(line, "here "):
			f.here[strings.TrimPrefix(line, "here ")] = true
		case strings.HasPrefix(line, "-A "):
			chain, _, _ := strings.Cut(line[3:], " ")
			f.chains[table+" "+chain] = append(f.chains[table+" "+chain], line)
		}
	}
	f.walk("nat", services, 1, nil, false, 0)
	if len(f.trace.Ends) == 0 && f.here[p.To.String()] {
		f.walk("nat", nodePorts, 1, nil, false, 0)
	}
	if len(f.trace.Ends) == 0 {
		chain := services
		if f.here[p.To.String()] {
			chain = nodePorts
		}
		f.walk("filter", chain, 1, nil, false, 0)
	}
	return f.trace
}

type follower struct {
	packet Packet
	chains map[string][]string
	here   map[string]bool // addresses of the host
	trace  Trace
}

// maxDepth bounds jumps: our chains are four deep.
const maxDepth = 8

// walk follows one chain with what is left of the chance to get there, the rules met and whether the packet is marked. It returns the chance
// to leave the chain without a verdict, and the mark.
func (f *follower) walk(table, chain string, chance float64, path []string, marked bool, depth int) (float64, bool) {
	if depth > maxDepth {
		return chance, marked
	}
	for _, rule := range f.chains[table+" "+chain] {
		share, target, ok := f.matches(rule)
		if !ok || chance == 0 {
			continue
		}
		here := append(path[:len(path):len(path)], rule)
		switch {
		case target == "BERTH-MARK-MASQ":
			marked = true
			path = here
		case target == "DNAT":
			to := rule[strings.LastIndexByte(rule, ' ')+1:]
			f.trace.Ends = append(f.trace.Ends, TraceEnd{To: to, Chance: chance * share, Masquerade: marked, Rules: here})
			return 0, marked
		case target == "DROP" || target == "REJECT":
			f.trace.Verdict, f.trace.Rules = target, here
			return 0, marked
		case strings.HasPrefix(target, "BERTH-"):
			left, mark := f.walk(table, target, chance*share, here, marked, depth+1)
			if left > 0 { // else packets that got a mark there have gone their way
				marked = mark
			}
			chance = chance*(1-share) + left
		}
	}
	return chance, marked
}

// matches reports whether a rule is about the packet, with what chance it takes it, and where it leads. A client that is remembered by an
// affinity is not known here: the choice is shown as it is for a new one.
func (f *follower) matches(rule string) (share float64, target string, ok bool) {
	share = 1
	words := fields(rule)
	not := false
	for i := 2; i < len(words); i++ {
		arg := ""
		if i+1 < len(words) {
			arg = words[i+1]
		}
		hit := true
		switch words[i] {
		case "!":
			not = true
			continue
		case "-s":
			hit = contains(arg, f.packet.From)
		case "-d":
			hit = contains(arg, f.packet.To)
		case "-p":
			hit = arg == f.packet.Protocol
		case "--dport":
			hit = arg == strconv.Itoa(int(f.packet.Port))
		case "--dst-type":
			hit = f.here[f.packet.To.String()]
		case "--src-type":
			hit = f.here[f.packet.From.String()]
		case "--rcheck":
			return 0, "", false
		case "--probability":
			if p, err := strconv.ParseFloat(arg, 64); err == nil {
				share = p
			}
			continue
		case "-j":
			return share, arg, true
		default:
			continue
		}
		if hit == not {
			return 0, "", false
		}
		not = false
	}
	return share, "", false
}

func contains(network string, ip netip.Addr) bool {
	p, err := netip.ParsePrefix(network)
	return err == nil && p.Contains(ip)
}

// fields splits a rule at blanks outside of quotes.
func fields(rule string) []string {
	quoted := false
	return strings.FieldsFunc(rule, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ' ' && !quoted
	})
}
