package shell

import (
	"regexp"
	"strings"
	"sync"

	awk "github.com/benhoyt/goawk/parser"
	"mvdan.cc/sh/v3/pattern"
	"mvdan.cc/sh/v3/syntax"
)

// Library is what machines share: programs, and scripts, awk programs and patterns that were parsed.
type Library struct {
	builtins map[string]builtin
	programs map[string]Program
	scripts  kept[*syntax.File]
	awks     kept[*awk.Program]
	regexps  kept[*regexp.Regexp]
}

// NewLibrary returns one that knows this package's programs.
func NewLibrary() *Library { return &Library{builtins: builtins(), programs: programs()} }

// keep bounds how many parsed texts of a kind are kept.
const keep = 1024

// kept are parsed texts. Providers send the same ones again and again.
type kept[T any] struct {
	mu     sync.Mutex
	byText map[string]T
}

func (k *kept[T]) get(text string, parse func(string) (T, error)) (T, error) {
	k.mu.Lock()
	v, ok := k.byText[text]
	k.mu.Unlock()
	if ok {
		return v, nil
	}
	v, err := parse(text)
	if err != nil {
		return v, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.byText == nil || len(k.byText) >= keep {
		k.byText = map[string]T{}
	}
	k.byText[text] = v
	return v, nil
}

func (l *Library) parse(text string) (*syntax.File, error) {
	return l.scripts.get(text, func(text string) (*syntax.File, error) {
		return syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(strings.NewReader(text), "sh")
	})
}

func (l *Library) regexp(expr string) (*regexp.Regexp, error) {
	return l.regexps.get(expr, regexp.Compile)
}

// matches is the shell's pattern matching.
func (l *Library) matches(pat, s string) bool {
	if pat == "*" {
		return true
	}
	if !pattern.HasMeta(pat, 0) && !strings.Contains(pat, `\`) {
		return pat == s
	}
	re, err := l.regexps.get("pattern "+pat, func(string) (*regexp.Regexp, error) {
		expr, err := pattern.Regexp(pat, pattern.EntireString)
		if err != nil {
			return nil, err
		}
		return regexp.Compile(expr)
	})
	return err == nil && re.MatchString(s)
}
