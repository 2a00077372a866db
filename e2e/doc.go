// Package e2e tells stories of a user on real hosts: it builds the berth program, runs it on a lab of three hosts as
// a person would, and looks at what became of the hosts: packets, processes, containers, files.
//
// One file is one story; start with apply_test.go. What the stories share is in story_test.go (a configuration and
// the berth that works in it), hosts_test.go (looking at hosts without Berth's help) and load_test.go (clients that must
// not notice anything). The program in the pods is in folder app.
//
// A host belongs to one cluster at a time, so a story borrows three hosts from a pool for as long as it lasts (theLab);
// a few stories run at once. Each leaves the hosts as it found them; hosts of one that could not are thrown away.
package e2e
