package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// watch reads a file again and again, as a program does that reloads its configuration, and says when it reads something
// else: the time, when this process began, and the text.
func watch(ctx context.Context, args []string) error {
	began, last := time.Now().UnixNano(), "\x00"
	for {
		text, err := os.ReadFile(args[0])
		if err != nil {
			return err // never: the file is there at every moment
		}
		if string(text) != last {
			last = string(text)
			fmt.Printf("%s %d %s\n", time.Now().Format(time.RFC3339Nano), began, last)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(2 * time.Millisecond):
		}
	}
}
