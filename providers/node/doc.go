// Package node looks at hosts: what they are, and what keeps them from taking pods. Check and Prepare serve `berth node check` and
// `berth node prepare`; Prepare alone changes a host, and only because somebody asked it to.
//
// Start with facts.go (what is asked, in one trip), then checks.go (what is made of it, one row per check).
package node
