package main

import (
	"context"
	"strconv"
	"time"
)

// eat takes so many MiB of memory and keeps them. It begins when containerd has had the time to watch the container's memory: of one
// that is killed before, nobody learns why.
func eat(ctx context.Context, args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	time.Sleep(150 * time.Millisecond)
	b := make([]byte, n<<20)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	<-ctx.Done()
	b[0]++
	return nil
}
