// Package berth is the root of the module: it holds the papers and arch_test.go, which keeps the rules
// of the tree. The program is in cmd/berth; docs/architecture.md says what lies where.
package berth
