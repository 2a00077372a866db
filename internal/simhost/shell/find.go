package shell

import (
	"strconv"
	"strings"

	"berth.dev/berth/internal/simhost/disk"
)

// find knows -xdev, -depth, -mindepth, -maxdepth, -type, -size +Nc, -name, -print, -print0, -printf, -delete -prune and -exec with \; or +, alternatives with -o, and these in parentheses.
func find(p *Process) int {
	args := p.Args[1:]
	var roots []string
	for len(args) > 0 && !strings.HasPrefix(args[0], "-") && args[0] != "(" {
		roots, args = append(roots, args[0]), args[1:]
	}
	s := &search{p: p, most: 1 << 30}
	if !s.parse(args) {
		return 1
	}
	status := 0
	for _, r := range roots {
		s.root = r
		if err := s.walk(r); err != nil {
			status = p.Fail(1, "'%s': %s", r, reason(err))
		}
	}
	for _, alt := range s.alternatives {
		for _, x := range alt {
			if x.batch && len(x.found) > 0 && p.Run(append(append([]string{}, x.command...), x.found...)...) != 0 {
				status = 1
			}
		}
	}
	return max(status, s.status)
}

type search struct {
	p            *Process
	root         string
	least, most  int
	depth        bool
	alternatives [][]*searchTerm
	status       int
	pruned       bool // nothing below what is visited is looked at
}

// searchTerm is a condition or an action.
type searchTerm struct {
	kind    byte // for -type
	larger  bool // for -size +Nc: a file of more than bytes
	bytes   int64
	name    string
	print   string
	format  string // of -printf
	remove  bool
	command []string
	batch   bool
	found   []string
	prune   bool
	any     [][]*searchTerm // what stands in parentheses
}

func (s *search) parse(args []string) bool {
	terms := []*searchTerm{}
	var outside [][][]*searchTerm // the alternatives before each parenthesis that is open, the last one of which goes on behind it
	acts := false
	for len(args) > 0 {
		a := args[0]
		args = args[1:]
		value := func() string {
			v := args[0]
			args = args[1:]
			return v
		}
		switch a {
		case "-xdev":
		case "-depth":
			s.depth = true
		case "-mindepth", "-maxdepth":
			n, err := strconv.Atoi(value())
			if err != nil {
				s.p.Fail(1, "%s: a number is needed", a)
				return false
			}
			if a == "-mindepth" {
				s.least = n
			} else {
				s.most = n
			}
		case "-type":
			terms = append(terms, &searchTerm{kind: value()[0]})
		case "-size":
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(args[0], "+"), "c"), 10, 64)
			if v := value(); err != nil || v[0] != '+' || v[len(v)-1] != 'c' {
				s.p.Fail(1, "-size: only +Nc is known here")
				return false
			}
			terms = append(terms, &searchTerm{larger: true, bytes: n})
		case "-name":
			terms = append(terms, &searchTerm{name: value()})
		case "-print0":
			terms, acts = append(terms, &searchTerm{print: "\x00"}), true
		case "-printf":
			terms, acts = append(terms, &searchTerm{format: value()}), true
		case "-print":
			terms, acts = append(terms, &searchTerm{print: "\n"}), true
		case "-delete":
			terms, acts, s.depth = append(terms, &searchTerm{remove: true}), true, true
		case "-exec":
			x := &searchTerm{}
			for len(args) > 0 && args[0] != ";" && args[0] != "+" {
				x.command = append(x.command, value())
			}
			if len(args) == 0 {
				s.p.Fail(1, "missing argument to '-exec'")
				return false
			}
			if x.batch = value() == "+"; x.batch {
				x.command = x.command[:len(x.command)-1] // {}
			}
			terms, acts = append(terms, x), true
		case "-o":
			s.alternatives, terms = append(s.alternatives, terms), []*searchTerm{}
		case "-prune":
			terms = append(terms, &searchTerm{prune: true})
		case "(":
			outside = append(outside, append(s.alternatives, terms))
			s.alternatives, terms = nil, nil
		case ")":
			if len(outside) == 0 {
				s.p.Fail(1, "invalid expression; you have used a ')' somewhere without a matching '('.")
				return false
			}
			group := &searchTerm{any: append(s.alternatives, terms)}
			before := outside[len(outside)-1]
			outside = outside[:len(outside)-1]
			s.alternatives, terms = before[:len(before)-1], append(before[len(before)-1], group)
		default:
			s.p.Fail(1, "unknown predicate '%s'", a)
			return false
		}
	}
	if len(outside) > 0 {
		s.p.Fail(1, "invalid expression; I was expecting to find a ')' somewhere but did not see one.")
		return false
	}
	s.alternatives = append(s.alternatives, terms)
	if !acts {
		for i := range s.alternatives {
			s.alternatives[i] = append(s.alternatives[i], &searchTerm{print: "\n"})
		}
	}
	return true
}

func (s *search) walk(root string) error {
	top, err := s.p.m.Disk.Lstat(s.p.abs(root))
	if err != nil {
		return err
	}
	s.down(root, top, 0, top.Device)
	return nil
}

func (s *search) down(name string, i disk.Info, level, device int) {
	s.pruned = false
	if !s.depth && level >= s.least {
		s.holds(s.alternatives, name, i)
	}
	if !s.pruned && i.Kind == disk.Dir && level < s.most && i.Device == device {
		list, err := s.p.m.Disk.List(s.p.abs(name))
		if err != nil {
			s.status = s.p.Fail(1, "'%s': %s", name, reason(err))
		}
		for _, e := range list {
			s.down(name+"/"+e.Name, e, level+1, device)
		}
	}
	if s.depth && level >= s.least {
		s.holds(s.alternatives, name, i)
	}
}

// holds reports whether one of the alternatives is true of a file. What acts among them does so.
func (s *search) holds(alternatives [][]*searchTerm, name string, i disk.Info) bool {
	kinds := map[byte]disk.Kind{'d': disk.Dir, 'f': disk.File, 'l': disk.Symlink, 's': disk.Socket}
	for _, alt := range alternatives {
		holds := true
		for _, x := range alt {
			switch {
			case x.any != nil:
				holds = s.holds(x.any, name, i)
			case x.prune:
				s.pruned = true
			case x.kind != 0:
				holds = kinds[x.kind] == i.Kind
			case x.larger:
				holds = i.Size > x.bytes
			case x.name != "":
				holds = s.p.m.lib.matches(x.name, name[strings.LastIndexByte(name, '/')+1:])
			case x.print != "":
				s.p.write([]byte(name + x.print))
			case x.format != "":
				s.p.write([]byte(strings.NewReplacer("%f", name[strings.LastIndexByte(name, '/')+1:], "%P", strings.TrimPrefix(strings.TrimPrefix(name, s.root), "/"), "%p", name,
					"%s", strconv.FormatInt(i.Size, 10), "%m", strconv.FormatUint(uint64(i.Mode), 8), "%i", strconv.FormatUint(i.Node, 10), `\0`, "\x00", `\n`, "\n", `\t`, "\t").Replace(x.format)))
			case x.remove:
				if err := s.p.m.Disk.Remove(s.p.abs(name), i.Kind == disk.Dir); err != nil {
					s.status, holds = s.p.Fail(1, "cannot delete '%s': %s", name, reason(err)), false
				}
			case x.batch:
				x.found = append(x.found, name)
			default:
				args := make([]string, len(x.command))
				for j, a := range x.command {
					args[j] = strings.ReplaceAll(a, "{}", name)
				}
				holds = s.p.Run(args...) == 0
			}
			if !holds {
				break
			}
		}
		if holds {
			return true
		}
	}
	return false
}
