package simhost

import (
	"strconv"
	"strings"
	"time"
)

// Container is what a [Behaviour] is chosen by.
type Container struct {
	Host, Namespace, Pod, UID, Name, Image string
	Attempt                                uint32
	Command                                []string // command and arguments
	Env                                    map[string]string
}

// Behaviour is what a container does once it is started.
type Behaviour struct {
	// Ends says that it ends by itself, After that long, with a Code. OOM has it killed for its memory instead.
	Ends  bool
	After time.Duration
	Code  int32
	OOM   bool
	// Stubborn is how long it goes on after the stop signal; it then ends with 143, or with StopCode if that is set.
	Stubborn time.Duration
	StopCode int32
	// StartError is what the runtime says when it cannot be started.
	StartError string
	// Message is its termination message; Logs what it prints at the start.
	Message string
	Logs    []string
	// Answer says what its ports answer, asked at every connection; nil answers 200 on every port.
	Answer func(port int, path string) Answer
	// Exec runs a command in it; nil lets every command succeed.
	Exec func(command []string) (code int32, output string)
	// CPU is what it uses, in thousandths of a processor; Memory in bytes.
	CPU, Memory int64
}

// Answer is what a port does with a connection.
type Answer struct {
	Closed bool          // nobody listens
	Status int           // of HTTP; 0 means 200
	Body   string        // of HTTP
	After  time.Duration // how long it takes
}

// Usual is what containers do that nobody has said anything about: they run until they are stopped, unless their command is "true",
// "false", "sleep N" or a line for a shell made of "sleep N" and "exit N".
func Usual(c Container) Behaviour {
	b := Behaviour{CPU: 5, Memory: 8 << 20}
	words := c.Command
	if len(words) == 0 {
		return b
	}
	base := func(s string) string { return s[strings.LastIndexByte(s, '/')+1:] }
	if base(words[0]) == "busybox" {
		words = words[1:]
	}
	if len(words) > 2 && base(words[0]) == "sh" && words[1] == "-c" {
		return line(b, words[2])
	}
	return line(b, strings.Join(words, " "))
}

// line reads "sleep 2; exit 3".
func line(b Behaviour, text string) Behaviour {
	for part := range strings.SplitSeq(text, ";") {
		f := strings.Fields(part)
		if len(f) == 0 {
			continue
		}
		n := 0
		if len(f) == 2 {
			var err error
			if n, err = strconv.Atoi(f[1]); err != nil {
				return Behaviour{CPU: b.CPU, Memory: b.Memory}
			}
		}
		switch name := f[0][strings.LastIndexByte(f[0], '/')+1:]; {
		case name == "true" && len(f) == 1:
			b.Ends = true
		case name == "false" && len(f) == 1:
			b.Ends, b.Code = true, 1
		case name == "sleep" && len(f) == 2:
			b.Ends, b.After = true, b.After+time.Duration(n)*time.Second
		case name == "exit" && len(f) == 2:
			b.Ends, b.Code = true, int32(n) //nolint:gosec // an exit code
			return b
		default:
			return Behaviour{CPU: b.CPU, Memory: b.Memory}
		}
	}
	return b
}
