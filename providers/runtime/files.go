package runtime

import (
	"bytes"
	"context"
	"fmt"

	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/hostfs"
)

// updateFiles brings the files that a running pod has of config maps and secrets up to date, each volume as a whole and at
// once. It touches neither the sandbox nor a container, and makes nothing that is not there: the files of a pod
// that has gone in the meantime stay gone.
func updateFiles(ctx context.Context, m *machine, w *providers.Work) error {
	f, err := m.facts(ctx)
	if err != nil {
		return err
	}
	b := bare(w, m.Name(), f)
	if b.volumes, err = b.resolveVolumes(); err != nil {
		return m.fail(w, "Files of the pod cannot be updated",
			"Pod %s: %v. Correct the reference or declare what it names, and apply again.", podName(b.pod), err)
	}
	args, archive, err := b.update()
	if err != nil || archive == nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, b.deadline(), errDeadline)
	defer cancel()
	_, err = m.Run(ctx, providers.Command{Script: prepareScript, Args: args, Stdin: bytes.NewReader(archive)})
	if err != nil {
		return m.mountFailure(ctx, b, "Files of the pod cannot be updated", fmt.Errorf("update the files of pod %s: %w", podName(b.pod), err))
	}
	return nil
}

// update is the list of instructions for prepareScript that replaces the content of volumes which stand already, and the
// archive with it; nil when the pod has none.
func (b *build) update() (args []string, archive []byte, err error) {
	var folders []string
	var content []hostfs.File
	var data []volume
	group := fsGroup(b.pod)
	for _, name := range sortedKeys(b.volumes) {
		v := b.volumes[name]
		if !v.data {
			continue
		}
		kind := "disk"
		if v.tmpfs != "" {
			kind = "tmpfs"
		}
		args = append(args, "standing", kind, name, v.path)
		folders = append(folders, v.path)
		content = append(content, v.archive(group)...)
		data = append(data, v)
	}
	if len(content) == 0 {
		return nil, nil, nil
	}
	archive, err = hostfs.Archive(append(content, sums(string(b.pod.UID), data)...)...)
	return append(args, unpack(folders, group, string(b.pod.UID))...), archive, err
}
