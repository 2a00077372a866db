// Package e2e tells stories of a user on real hosts: it builds the berth program, runs it on a lab of three hosts as
// a person would, and looks at what became of the hosts: packets, processes, containers, files.
//
// One file is one story; start with apply_test.go. What the stories share is in story_test.go (a configuration and
// the berth that works in it), hosts_test.go (looking at hosts without Berth's help) and load_test.go (clients that must
// not notice anything). The program in the pods is in folder app.
//
// A host belongs to one cluster at a time, so a story borrows three hosts from a pool for as long as it lasts (theLab in pool_test.go);
// a few stories run at once, the others wait for their turn, which counts for the time that `go test` tells of them. Each leaves the hosts as it
// found them; hosts of one that could not are thrown away. `go test -v` ends with a table of what each story took with its hosts.
//
// A story has to hold on a machine that is five times slower than it should be, and on one that stands still for five seconds at the worst
// place. What must happen before something else is held back by a gate (gate_test.go) or by a foreman (foreman_test.go), not by a time that is
// hoped to be long enough. Probes that are not the subject have ten seconds, polls two minutes. Rates are not asserted.
package e2e
