package node

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/pelletier/go-toml/v2"
)

// wanted is what containerd's configuration has to say.
type wanted struct {
	version string // of containerd; "" when unknown
	binDir  string // folder with the CNI plugins; "" leaves it
	sandbox string // the sandbox image's name
	systemd bool   // let systemd write cgroups
	oom     bool   // do not lower oom_score_adj
}

// configFormat says where a version of the file keeps what we set.
type configFormat struct {
	runtime, images string   // plugin names
	sandbox         []string // path below images
}

var configFormats = map[int64]configFormat{
	2: {"io.containerd.grpc.v1.cri", "io.containerd.grpc.v1.cri", []string{"sandbox_image"}},
	3: {"io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images", []string{"pinned_images", "sandbox"}},
	4: {"io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images", []string{"pinned_images", "sandbox"}}, // only the servers moved: address, debug, metrics
}

// criPlugins are the names under which CRI can be disabled.
var criPlugins = []string{"cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images"}

// configure returns the configuration with what is wanted, and what it changed, in words. What is right is left alone, and with
// nothing to change the text is returned as it was. Comments are lost otherwise.
func configure(text []byte, w wanted) ([]byte, []string, error) {
	config := map[string]any{}
	if err := toml.Unmarshal(text, &config); err != nil {
		return nil, nil, fmt.Errorf("read containerd's configuration: %w", err)
	}
	e := &edit{config: config}
	format, err := e.format()
	if err != nil {
		return nil, nil, err
	}
	e.enableCRI()
	if w.binDir != "" {
		e.cni(format, w)
	}
	e.set(append([]string{"plugins", format.images}, format.sandbox...), w.sandbox)
	if _, old := e.get("plugins", format.images, "registry", "mirrors"); !old {
		if _, has := e.get("plugins", format.images, "registry", "config_path"); !has {
			e.set([]string{"plugins", format.images, "registry", "config_path"}, "/etc/containerd/certs.d")
		}
	}
	if w.systemd {
		runc := []string{"plugins", format.runtime, "containerd", "runtimes", "runc"}
		// A table for runc hides containerd's own defaults for it.
		if _, has := e.get(append(slices.Clone(runc), "runtime_type")...); !has {
			e.set(append(slices.Clone(runc), "runtime_type"), "io.containerd.runc.v2")
		}
		e.set(append(slices.Clone(runc), "options", "SystemdCgroup"), true)
	}
	if w.oom {
		e.set([]string{"plugins", format.runtime, "restrict_oom_score_adj"}, true)
	}
	if e.err != nil {
		return nil, nil, e.err
	}
	if len(e.changes) == 0 {
		return text, nil, nil
	}
	var out bytes.Buffer
	if err := toml.NewEncoder(&out).SetIndentTables(true).Encode(config); err != nil {
		return nil, nil, fmt.Errorf("write containerd's configuration: %w", err)
	}
	return out.Bytes(), e.changes, nil
}

// edit is a configuration being changed.
type edit struct {
	config  map[string]any
	changes []string
	err     error
}

// format finds the version of the file. One without a version and without settings of plugins, as Docker's package
// installs it, becomes version 2, which every containerd from 1.6 on reads.
func (e *edit) format() (configFormat, error) {
	version, ok := e.config["version"].(int64)
	if !ok {
		if _, has := e.config["plugins"]; has {
			return configFormat{}, errors.New("the configuration has no version, so it is of the old version 1: convert it with `containerd config migrate` first")
		}
		version = 2
		e.set([]string{"version"}, version)
	}
	f, ok := configFormats[version]
	if !ok {
		return f, fmt.Errorf("the configuration is of version %d: only 2 to 4 are known", version)
	}
	return f, nil
}

func (e *edit) enableCRI() {
	list, _ := e.config["disabled_plugins"].([]any)
	kept := slices.DeleteFunc(slices.Clone(list), func(v any) bool {
		name, _ := v.(string)
		return slices.Contains(criPlugins, name)
	})
	if len(kept) != len(list) {
		e.config["disabled_plugins"] = kept
		e.changes = append(e.changes, "CRI enabled")
	}
}

func (e *edit) cni(f configFormat, w wanted) {
	cni := []string{"plugins", f.runtime, "cni"}
	dirs := append(slices.Clone(cni), "bin_dirs")
	if _, has := e.get(dirs...); has || f.runtime != f.images && w.version != "" && atLeast(w.version, "2.1.0") {
		e.set(dirs, []any{w.binDir})
	} else {
		e.set(append(slices.Clone(cni), "bin_dir"), w.binDir)
	}
	e.set(append(slices.Clone(cni), "conf_dir"), "/etc/cni/net.d")
}

// get returns the value at a path.
func (e *edit) get(path ...string) (any, bool) {
	table := e.config
	for _, key := range path[:len(path)-1] {
		next, ok := table[key].(map[string]any)
		if !ok {
			return nil, false
		}
		table = next
	}
	v, ok := table[path[len(path)-1]]
	return v, ok
}

// set puts a value at a path, making tables on the way, and notes it if it was not there.
func (e *edit) set(path []string, value any) {
	table := e.config
	for _, key := range path[:len(path)-1] {
		next, ok := table[key].(map[string]any)
		if !ok {
			if _, other := table[key]; other {
				e.err = errors.Join(e.err, fmt.Errorf("%s in the configuration is not a table", key))
				return
			}
			next = map[string]any{}
			table[key] = next
		}
		table = next
	}
	last := path[len(path)-1]
	if fmt.Sprint(table[last]) == fmt.Sprint(value) {
		return
	}
	table[last] = value
	e.changes = append(e.changes, fmt.Sprintf("%s = %v", last, value))
}
