package runtime

import (
	"context"

	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/mark"
)

// Announce has a host keep the numbers of w, so that it refuses whoever has smaller ones, and is refused itself where w's are. A host without
// a mark keeps nothing: nothing of the cluster is there yet. w needs only what goes into a mark.
func Announce(ctx context.Context, h providers.Host, w *providers.Work) error {
	g, err := mark.NewGuarded(h, w)
	if err != nil {
		return err
	}
	_, err = g.Run(ctx, providers.Command{Script: ":"})
	return err
}
