// Package main is the program of the test image. Its first argument says what it does:
//
//	sleep                  wait for SIGTERM, then end with 0 (also the default)
//	stubborn               ignore SIGTERM
//	crash CODE TEXT        write the text to standard error and end
//	after DURATION CODE    end after a while
//	httpd ADDR             serve: / the hostname, /healthz 200 or 503 (see POST /healthy, POST /sick), /env, /file?path=
//	probed                 serve what probes ask for: see probed.go
//	append FILE TEXT       add a line to a file
//	cat FILE...            write files to standard output
//	stat FILE...           write "mode uid:gid name" of each
//	env                    write the environment, sorted
//	id                     write uid, gid and groups
//	put FILE TEXT          write a file
//	lines N [DURATION]     write N numbered lines, with a pause between them
//	long N                 write one line of N letters
//	echo TEXT CODE         write the text and end
//	alloc MEGABYTES        use memory
//	size                   write the terminal's size whenever it changes
//	copy                   standard input to standard output
//	wait FILE              wait until the file is there
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	what, args := "sleep", []string(nil)
	if len(os.Args) > 1 {
		what, args = os.Args[1], os.Args[2:]
	}
	commands := map[string]func([]string) int{
		"sleep": sleep, "stubborn": stubborn, "crash": crash, "after": after, "httpd": httpd, "probed": probed, "append": appendLine, "cat": cat, "stat": stat, "env": env, "id": id,
		"put": put, "lines": lines, "long": long, "echo": echo, "alloc": alloc, "size": size, "copy": copyInput, "wait": wait,
	}
	run, ok := commands[what]
	if !ok {
		fmt.Fprintln(os.Stderr, "unknown:", what)
		os.Exit(64)
	}
	os.Exit(run(args))
}

func sleep([]string) int {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	<-c
	fmt.Println("terminated")
	return 0
}

func stubborn([]string) int {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	for range c {
		fmt.Println("no")
	}
	return 0
}

func crash(args []string) int {
	fmt.Fprintln(os.Stderr, strings.Join(args[1:], " "))
	return number(args[0])
}

func echo(args []string) int {
	fmt.Println(args[0])
	return number(args[1])
}

func after(args []string) int {
	d, err := time.ParseDuration(args[0])
	if err != nil {
		panic(err)
	}
	time.Sleep(d)
	return number(args[1])
}

func httpd(args []string) int {
	var healthy atomic.Bool
	healthy.Store(os.Getenv("SICK") == "")
	http.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		name, _ := os.Hostname()
		fmt.Fprintln(w, name)
	})
	http.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if !healthy.Load() {
			http.Error(w, "sick", http.StatusServiceUnavailable)
		}
	})
	http.HandleFunc("POST /healthy", func(http.ResponseWriter, *http.Request) { healthy.Store(true) })
	http.HandleFunc("POST /sick", func(http.ResponseWriter, *http.Request) { healthy.Store(false) })
	http.HandleFunc("GET /env", func(w http.ResponseWriter, _ *http.Request) {
		for _, e := range os.Environ() {
			fmt.Fprintln(w, e)
		}
	})
	http.HandleFunc("GET /file", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, r.URL.Query().Get("path")) })
	fmt.Println("listening on", args[0])
	go func() { os.Exit(sleep(nil)) }()
	fmt.Fprintln(os.Stderr, http.ListenAndServe(args[0], nil))
	return 1
}

func cat(args []string) int {
	for _, f := range args {
		b, err := os.ReadFile(f)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		os.Stdout.Write(b)
	}
	return 0
}

func stat(args []string) int {
	for _, f := range args {
		i, err := os.Stat(f)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		s := i.Sys().(*syscall.Stat_t)
		fmt.Printf("%04o %d:%d %s\n", s.Mode&0o7777, s.Uid, s.Gid, f)
	}
	return 0
}

func env([]string) int {
	all := os.Environ()
	sort.Strings(all)
	fmt.Println(strings.Join(all, "\n"))
	return 0
}

func id([]string) int {
	groups, err := os.Getgroups()
	fmt.Println(os.Getuid(), os.Getgid(), groups, err)
	return 0
}

func put(args []string) int {
	if err := os.WriteFile(args[0], []byte(args[1]), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func lines(args []string) int {
	var pause time.Duration
	if len(args) > 1 {
		pause, _ = time.ParseDuration(args[1])
	}
	for i := range number(args[0]) {
		fmt.Println("line", i)
		time.Sleep(pause)
	}
	return 0
}

func long(args []string) int {
	fmt.Println(strings.Repeat("x", number(args[0])))
	return 0
}

func alloc(args []string) int {
	time.Sleep(watched)
	b := make([]byte, number(args[0])<<20)
	for i := range b {
		b[i] = 1
	}
	return sleep(nil)
}

// watched is how long containerd may take to watch the memory of a container that it has started: of one that is killed before, nobody
// learns why. It is less than what makes a container ready.
const watched = 150 * time.Millisecond

func size([]string) int {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGWINCH)
	for {
		if w, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ); err == nil {
			fmt.Printf("%dx%d\n", w.Col, w.Row)
			if w.Col == 1 {
				return 7
			}
		}
		<-c
	}
}

func copyInput([]string) int {
	if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
		return 1
	}
	return 0
}

func wait(args []string) int {
	for {
		if _, err := os.Stat(args[0]); err == nil {
			return 0
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}
