package statefile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
)

// Peeker is a Store that can tell at little cost whether anything has changed.
type Peeker interface {
	// Peek returns a text that differs whenever document or journal do.
	Peek(ctx context.Context) (string, error)
}

// Peek returns a text that differs whenever the state does, what a run in progress has done included. It takes no lock.
func Peek(ctx context.Context, store Store) (string, error) {
	if p, ok := store.(Peeker); ok {
		return p.Peek(ctx)
	}
	if below, ok := store.(interface{ Unwrap() Store }); ok {
		return Peek(ctx, below.Unwrap())
	}
	journal, err := store.Journal(ctx)
	if err != nil {
		return "", err
	}
	_, version, err := store.Get(ctx)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(journal)
	return version + "+" + hex.EncodeToString(sum[:]), nil
}
