package runtime

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/hostfs"
)

// What Berth has written into the files of a pod is known by its sums, so that a look at the host sees what somebody has changed there by hand.
// They lie in memory: hashes of secrets are as little for a disk as secrets are. After a reboot there are none, and the pods are made anew
// anyway.

// sumsFile is where the sums of a pod's files lie.
func sumsFile(uid string) string { return path.Join(api.SumsDir, uid) }

// sums are the archive's part that lists what the given volumes hold, under a name from which the script takes it once all of it is there.
func sums(uid string, volumes []volume) []hostfs.File {
	var text bytes.Buffer
	for _, v := range volumes {
		for _, f := range v.files {
			name, escaped := strings.ReplaceAll(path.Join(v.path, dataLink, f.path), `\`, `\\`), ""
			if strings.Contains(name, `\`) {
				escaped = `\` // as sha256sum writes it
			}
			sum := sha256.Sum256(f.data)
			fmt.Fprintf(&text, "%s%s  %s\n", escaped, hex.EncodeToString(sum[:]), name)
		}
	}
	return []hostfs.File{
		{Path: path.Dir(api.SumsDir), Mode: 0o755, Dir: true},
		{Path: api.SumsDir, Mode: 0o700, Dir: true},
		{Path: sumsFile(uid) + ".new", Mode: 0o600, Data: text.Bytes()},
	}
}

// filesOfPods has the host compare the files of all pods with what was written, and tell whose folders it has, in one round trip: lines for
// [alteredFiles] and [remainsOf].
func (m *machine) filesOfPods(ctx context.Context) ([]byte, error) {
	out, err := m.Run(ctx, providers.Command{Script: filesScript, Args: []string{api.PodsDir, api.SumsDir}})
	if err != nil {
		return nil, fmt.Errorf("compare the files of pods with what was written: %w", err)
	}
	return out.Stdout, nil
}

// FilesDiffer says of pods, by uid, that what was written into their files on a host is not what their works would write. It asks the host once.
func FilesDiffer(ctx context.Context, h providers.Host, works []*providers.Work) (map[string]bool, error) {
	m, err := open(h)
	if err != nil {
		return nil, err
	}
	f, err := m.facts(ctx)
	if err != nil {
		return nil, err
	}
	out, err := m.Run(ctx, providers.Command{Script: `cd -- "$1" 2>/dev/null || exit 0
set -- *
[ ! -e "$1" ] || sha256sum -- "$@"
`, Args: []string{api.SumsDir}})
	if err != nil {
		return nil, fmt.Errorf("read what the files of pods on %s hold: %w", h.Name(), err)
	}
	has := map[string]string{} // by uid
	for line := range strings.Lines(string(out.Stdout)) {
		if sum, uid, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  "); ok {
			has[uid] = sum
		}
	}
	differ := map[string]bool{}
	for _, w := range works {
		b := bare(w, h.Name(), f)
		uid := string(b.pod.UID)
		if text, ok := b.sumsText(); !ok || has[uid] != fmt.Sprintf("%x", sha256.Sum256(text)) {
			differ[uid] = true
		}
	}
	return differ, nil
}

// sumsText is what lists the files of the pod; false when something that it refers to is missing.
func (b *build) sumsText() ([]byte, bool) {
	found := map[string]volume{}
	for i := range b.pod.Spec.Volumes {
		v := &b.pod.Spec.Volumes[i]
		if v.ConfigMap == nil && v.Secret == nil && v.DownwardAPI == nil && v.Projected == nil {
			continue
		}
		resolved, err := b.resolveVolume(v)
		if err != nil {
			return nil, false
		}
		found[v.Name] = resolved
	}
	var data []volume
	for _, name := range sortedKeys(found) {
		if found[name].data {
			data = append(data, found[name])
		}
	}
	list := sums(string(b.pod.UID), data)
	return list[len(list)-1].Data, true
}

// alteredFiles reads what sha256sum says of those that are not right: "/var/lib/berth/pods/UID/volumes/KIND/NAME/..data/FILE: FAILED", by uid.
func alteredFiles(said []byte) map[string][]string {
	out := map[string][]string{}
	for line := range strings.Lines(string(said)) {
		i := strings.LastIndex(line, ": FAILED")
		if i < 0 {
			continue
		}
		rest, ours := strings.CutPrefix(strings.TrimPrefix(line[:i], `\`), api.PodsDir+"/")
		uid, below, _ := strings.Cut(rest, "/")
		dir, file, ok := strings.Cut(below, "/"+dataLink+"/")
		if !ours || !ok {
			continue
		}
		out[uid] = append(out[uid], path.Base(dir)+"/"+strings.ReplaceAll(file, `\\`, `\`))
	}
	for _, list := range out {
		slices.Sort(list)
	}
	return out
}

// One program for all pods each: it is started once.
const filesScript = `cat -- "$1"/*/owner 2>/dev/null || :
set -- "$2"/*
[ -e "$1" ] || exit 0
for file; do
	case $file in *.new) ;; *) cat -- "$file" 2>/dev/null ;; esac
done | LC_ALL=C sha256sum -c --quiet 2>/dev/null || :
`
