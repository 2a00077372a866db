// Package all lists the backends. A new one is a folder beside this one, which passes statetest.Run, and a
// row in the table below.
package all

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/etcd"
	"berth.dev/berth/statefile/backend/http"
	"berth.dev/berth/statefile/backend/local"
	"berth.dev/berth/statefile/backend/postgres"
	"berth.dev/berth/statefile/backend/s3"
	"berth.dev/berth/statefile/backend/ssh"
)

// kind is a kind of backend.
type kind struct {
	name string
	keys []string // its attributes
	open func(config map[string]string, dir string) (statefile.Store, error)
}

// Options are what backends need of the rest of the program.
type Options struct {
	// SSH reaches the machine of a backend "ssh"; nil where none can be.
	SSH ssh.Connect
}

func kinds(o Options) []kind {
	return []kind{
		{"local", local.Keys(), local.Open},
		{"etcd", etcd.Keys(), etcd.Open},
		{"http", http.Keys(), http.Open},
		{"postgres", postgres.Keys(), postgres.Open},
		{"s3", s3.Keys(), s3.Open},
		{"ssh", ssh.Keys(), func(config map[string]string, _ string) (statefile.Store, error) { return ssh.Open(config, o.SSH) }},
	}
}

// Open returns the store of a backend block: its label, its attributes, and the configuration's directory, to
// which paths are relative. Nothing is read or dialled yet.
func Open(name string, config map[string]string, dir string, o Options) (statefile.Store, error) {
	var names []string
	for _, k := range kinds(o) {
		if k.name != name {
			names = append(names, k.name)
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(config)) {
			if !slices.Contains(k.keys, key) {
				return nil, fmt.Errorf("backend %q has no attribute %q: it takes %s", name, key, strings.Join(k.keys, ", "))
			}
		}
		store, err := k.open(config, dir)
		if err != nil {
			return nil, fmt.Errorf("backend %q: %w", name, err)
		}
		return store, nil
	}
	return nil, fmt.Errorf("backend %q is not known: use %s", name, strings.Join(names, ", "))
}
