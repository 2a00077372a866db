// Package iptables holds what the providers network and proxy share about rules on a host: chain names, the text form of rules, the
// choice of the backend, and the shell and awk programs that bring such text into force and compare it with what is. It
// knows neither services nor nodes. Start with [Rules].
//
// Two kinds of chains are ours. An owned chain belongs to one text, which is all of its content. A dispatch chain is shared: each
// text has some lines in it, told apart by their comment. Chains of others get jumps to ours and are never touched
// otherwise.
package iptables

import (
	"crypto/sha256"
	"encoding/base32"
)

// ChainName is prefix plus 16 characters of a hash of text, as kube-proxy names its chains. The kernel allows 28 characters.
func ChainName(prefix, text string) string {
	sum := sha256.Sum256([]byte(text))
	return prefix + base32.StdEncoding.EncodeToString(sum[:])[:16]
}

// Probability is a share as a rule's --probability. It is written as iptables-save prints it: the kernel keeps 31 bits.
func Probability(share float64) string {
	const one = 1 << 31
	return formatProbability(float64(int64(share*one+0.5)) / one)
}
