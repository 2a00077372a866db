package main

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// spin keeps one processor busy for so many percent of the time.
func spin(ctx context.Context, args []string) error {
	percent, err := strconv.Atoi(args[0])
	if err != nil || percent < 0 || percent > 100 {
		return fmt.Errorf("spin %s: want 0 to 100", args[0])
	}
	const slice = 10 * time.Millisecond
	busy := slice * time.Duration(percent) / 100
	for ctx.Err() == nil {
		for end := time.Now().Add(busy); time.Now().Before(end); {
		}
		time.Sleep(slice - busy)
	}
	return nil
}
