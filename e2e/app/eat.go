package main

import (
	"context"
	"strconv"
)

// eat takes so many MiB of memory and keeps them.
func eat(ctx context.Context, args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	b := make([]byte, n<<20)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	<-ctx.Done()
	b[0]++
	return nil
}
