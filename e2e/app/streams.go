package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// numbers writes numbered lines, with a pause between them, and waits to be ended when it is asked to stay. Before each hundredth line it waits for the
// page GATE, if that is given.
func numbers(ctx context.Context, args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	pause, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	gate := os.Getenv("GATE")
	for i := range n {
		if gate != "" && i > 0 && i%100 == 0 {
			pass(ctx, gate+"?pod="+strconv.Itoa(i))
		}
		if _, err := fmt.Printf("number %d\n", i); err != nil {
			return err
		}
		time.Sleep(pause)
	}
	if len(args) > 2 && args[2] == "stay" {
		<-ctx.Done()
	}
	return nil
}

// noise is an endless stream of bytes that is the same everywhere.
func noise() io.Reader {
	return rand.NewChaCha8([32]byte([]byte("the bytes of the end-to-end test")))
}

// give listens and sends so many bytes of noise to whoever connects.
func give(ctx context.Context, args []string) error {
	n, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return err
	}
	return eachConnection(ctx, args[0], func(c net.Conn) error {
		_, err := io.Copy(c, io.LimitReader(noise(), n))
		return err
	})
}

// take listens, reads so many bytes from whoever connects, and answers with their sum.
func take(ctx context.Context, args []string) error {
	n, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return err
	}
	return eachConnection(ctx, args[0], func(c net.Conn) error {
		h := sha256.New()
		if _, err := io.CopyN(h, c, n); err != nil {
			return err
		}
		_, err := fmt.Fprintf(c, "%x\n", h.Sum(nil))
		return err
	})
}

func eachConnection(ctx context.Context, address string, do func(net.Conn) error) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	fmt.Println("listening on", address)
	for {
		c, err := l.Accept()
		if err != nil {
			return nil //nolint:nilerr // the listener was closed
		}
		go func() {
			defer c.Close()
			if err := do(c); err != nil {
				fmt.Println("connection:", err)
			}
		}()
	}
}

// sum writes the sum of each file.
func sum(_ context.Context, args []string) error {
	for _, name := range args {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		fmt.Printf("%x %s\n", h.Sum(nil), name)
	}
	return nil
}

// tree lists what is below a directory: kind and mode, name, target of a link.
func tree(_ context.Context, args []string) error {
	return filepath.WalkDir(args[0], func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(args[0], at)
		if err != nil {
			return err
		}
		target := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			if target, err = os.Readlink(at); err != nil {
				return err
			}
			target = " -> " + target
		}
		mode := info.Mode()
		if target != "" {
			mode = fs.ModeSymlink // that of the link itself means nothing
		}
		fmt.Printf("%s %s%s\n", mode, rel, target)
		return nil
	})
}

// processes lists the command lines that /proc shows.
func processes(context.Context, []string) error {
	list, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	for _, name := range list {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		fmt.Printf("%s %s\n", filepath.Base(filepath.Dir(name)), bytes.ReplaceAll(bytes.TrimRight(b, "\x00"), []byte{0}, []byte{' '}))
	}
	return nil
}

// fill writes so many bytes of noise into a file.
func fill(_ context.Context, args []string) error {
	n, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return err
	}
	f, err := os.Create(args[0])
	if err != nil {
		return err
	}
	_, err = io.Copy(f, io.LimitReader(noise(), n))
	return errors.Join(err, f.Close())
}
