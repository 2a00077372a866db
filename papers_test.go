package berth

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/api"
	"berth.dev/berth/hcl"
	"berth.dev/berth/planner"
)

// labInventory is the inventory that the examples name: what "berth lab up" writes.
const labInventory = "/var/lib/berth-lab/lab/nodes.toml"

// TestLinks follows every relative link in the papers, and every link to a heading of a paper.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, paper := range papers(t) {
		for _, m := range link.FindAllStringSubmatch(withoutCode(read(t, paper)), -1) {
			u, err := url.Parse(m[1])
			if err != nil || u.Scheme != "" {
				continue
			}
			target := paper
			if u.Path != "" {
				target = filepath.Join(filepath.Dir(paper), u.Path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which is not there", paper, m[1])
				continue
			}
			if u.Fragment != "" && !slices.Contains(headings(read(t, target)), u.Fragment) {
				t.Errorf("%s links to %s, which has no such heading", paper, m[1])
			}
		}
	}
}

// TestNamedTests looks up the tests and benchmarks that the papers give as proof.
func TestNamedTests(t *testing.T) {
	var code strings.Builder
	walkGo(t, func(path, _ string) {
		if strings.HasSuffix(path, "_test.go") {
			code.WriteString(read(t, path))
		}
	})
	name := regexp.MustCompile("`((?:Test|Benchmark|Fuzz)[A-Z]\\w*)`")
	for _, paper := range papers(t) {
		for _, m := range name.FindAllStringSubmatch(read(t, paper), -1) {
			if !strings.Contains(code.String(), "\nfunc "+m[1]+"(") {
				t.Errorf("%s names %s: there is no such test", paper, m[1])
			}
		}
	}
}

// TestMakeTargets looks up every "make TARGET" of the papers in the Makefile.
func TestMakeTargets(t *testing.T) {
	makefile := "\n" + read(t, "Makefile")
	for _, c := range commands(t, "make") {
		if !strings.Contains(makefile, "\n"+c.words[0]+":") {
			t.Errorf("%s says make %s: there is no such target", c.paper, c.words[0])
		}
	}
}

// TestBerthCommands asks the program itself about every "berth COMMAND" of the papers, with its flags.
func TestBerthCommands(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	program := filepath.Join(t.TempDir(), "berth")
	if out, err := exec.Command("go", "build", "-o", program, "./cmd/berth").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	help := map[string]string{}
	ask := func(words ...string) string {
		key := strings.Join(words, " ")
		if help[key] == "" {
			out, err := exec.Command(program, append(words, "--help")...).CombinedOutput()
			if err != nil {
				t.Errorf("berth %s --help: %v\n%s", key, err, out)
			}
			help[key] = string(out)
		}
		return help[key]
	}
	has := func(text, name string) bool { return regexp.MustCompile(`(?m)^  ` + name + ` `).MatchString(text) }
	checked := 0
	for _, c := range commands(t, "berth") {
		words := slices.DeleteFunc(slices.Clone(c.words), func(w string) bool { return w == "--chdir" || strings.HasPrefix(w, "examples/") })
		if len(words) == 0 || !has(ask(), words[0]) {
			t.Errorf("%s says berth %s: there is no such command", c.paper, strings.Join(words, " "))
			continue
		}
		text := ask(words[0])
		if len(words) > 1 && !strings.HasPrefix(words[1], "--") && strings.Contains(text, "Available Commands:") {
			if !has(text, words[1]) {
				t.Errorf("%s says berth %s %s: there is no such command", c.paper, words[0], words[1])
				continue
			}
			text = ask(words[0], words[1])
		}
		for _, w := range words {
			if flag, ok := strings.CutPrefix(w, "--"); ok && flag != "" && !strings.Contains(text, "--"+flag+" ") && !strings.Contains(text, "--"+flag+"\n") {
				t.Errorf("%s says berth %s: %s has no flag %s", c.paper, strings.Join(words, " "), words[0], w)
			}
		}
		checked++
	}
	if checked == 0 {
		t.Error("the papers name no command")
	}
}

// TestREADMEExample keeps the example on the first page the one that is in the folder.
func TestREADMEExample(t *testing.T) {
	blocks := fences(read(t, "README.md"), "hcl")
	if len(blocks) == 0 {
		t.Fatal("README.md has no example")
	}
	if d := cmp.Diff(read(t, "examples/hello/main.hcl"), blocks[0]); d != "" {
		t.Errorf("the example in README.md is not examples/hello/main.hcl:\n%s", d)
	}
}

// TestExamples formats, evaluates and plans every configuration in examples, as it stands but for its hosts.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("examples/*/*.hcl")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	folders := map[string]map[string]string{}
	for _, f := range files {
		dir := filepath.Dir(f)
		if folders[dir] == nil {
			folders[dir] = map[string]string{}
		}
		folders[dir][filepath.Base(f)] = read(t, f)
	}
	for dir, texts := range folders {
		t.Run(filepath.Base(dir), func(t *testing.T) { plan(t, texts) })
	}
}

// TestLanguagePage takes all examples of docs/language.md together for one configuration.
func TestLanguagePage(t *testing.T) {
	page := read(t, "docs/language.md")
	texts := map[string]string{
		"nodes.toml": strings.Join(fences(page, "toml"), "\n"), "berth.bvars": "password = \"correct horse\"\n",
	}
	for i, block := range fences(page, "hcl") {
		texts[fmt.Sprintf("%02d.hcl", i)] = block
	}
	p := plan(t, texts)
	for _, want := range []string{`deployment.worker["mail"]`, "config_map.shard[0]"} {
		if !slices.ContainsFunc(p.Changes, func(c api.Change) bool { return c.Address.String() == want }) {
			t.Errorf("the plan does not have %s, which the page names", want)
		}
	}
	for _, want := range []string{"worker-mail", "shard-0"} {
		if !slices.ContainsFunc(p.Changes, func(c api.Change) bool { return c.After != nil && c.After.Name() == want }) {
			t.Errorf("the plan has no object named %s, which the page names", want)
		}
	}
}

// TestProviderPages takes each example in a provider's README for a configuration of its own. One that declares no nodes is
// given those of a lab.
func TestProviderPages(t *testing.T) {
	pages, err := filepath.Glob("providers/*/README.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no provider has a README: %v", err)
	}
	for _, page := range pages {
		for i, block := range fences(read(t, page), "hcl") {
			t.Run(fmt.Sprintf("%s/%d", filepath.Base(filepath.Dir(page)), i), func(t *testing.T) {
				texts := map[string]string{"main.hcl": block}
				if !strings.Contains(block, "node \"") && !strings.Contains(block, "inventory \"") {
					texts["hosts.hcl"] = "inventory \"toml\" {\n  path = \"" + labInventory + "\"\n}\n"
				}
				plan(t, texts)
			})
		}
	}
}

// plan checks the format of a configuration's files, evaluates it without building images, and plans it on hosts that have
// nothing of Berth yet.
func plan(t *testing.T, texts map[string]string) *api.Plan {
	t.Helper()
	dir := t.TempDir()
	inventory := filepath.Join(dir, "lab.toml")
	hosts := "[[node]]\nname = 'n1'\naddress = '10.90.0.11'\n\n[[node]]\nname = 'n2'\naddress = '10.90.0.12'\n"
	write(t, inventory, hosts)
	for name, text := range texts {
		if strings.HasSuffix(name, ".hcl") {
			formatted, ds := hcl.Format([]byte(text), name)
			if ds.HasErrors() {
				t.Fatalf("%s: %v", name, ds.Err())
			}
			if d := cmp.Diff(text, string(formatted)); d != "" {
				t.Errorf("%s is not in the standard format:\n%s", name, d)
			}
		}
		write(t, filepath.Join(dir, name), strings.ReplaceAll(text, labInventory, inventory))
	}
	m, ds := hcl.Parse(dir)
	if ds.HasErrors() {
		t.Fatal(ds.Err())
	}
	config, ds := m.Evaluate(t.Context(), hcl.Options{Version: "0.1.0"})
	if ds.HasErrors() {
		t.Fatal(ds.Err())
	}
	seen := &api.Observation{}
	for i, n := range config.Nodes {
		seen.Nodes = append(seen.Nodes, &api.NodeObservation{Name: n.Name, BootID: "boot", Facts: api.NodeFacts{
			Hostname: n.Name, Arch: "amd64", CPUs: 4, MemoryBytes: 8 << 30, MaxPods: 110, InternalIP: fmt.Sprintf("10.90.0.%d", 11+i),
			Interface: "eth0", MTU: 1500, CNIBinDir: "/usr/lib/cni",
		}})
	}
	p, ds := planner.Plan(planner.Input{Config: config, Prior: &api.State{}, Observed: seen})
	if ds.HasErrors() {
		t.Fatal(ds.Err())
	}
	if p.Empty() {
		t.Error("the plan is empty")
	}
	if _, err := json.Marshal(p); err != nil {
		t.Error(err)
	}
	return p
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// papers lists every Markdown file of the tree but those of test data.
func papers(t *testing.T) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".md") {
			out = append(out, path)
		}
		return nil
	})
	if err != nil || len(out) == 0 {
		t.Fatalf("no papers: %v", err)
	}
	return out
}

// command is what a paper tells its reader to type, without the program's name and from the first placeholder on.
type command struct {
	paper string
	words []string
}

// commands finds the uses of a program in code spans and in indented or fenced code.
func commands(t *testing.T, program string) []command {
	t.Helper()
	use := regexp.MustCompile(`(?:^|&& )(?:[./]*bin/)?` + program + `((?: [^ |#,;:…)]+)+)`)
	var out []command
	for _, paper := range papers(t) {
		for _, code := range codeOf(read(t, paper)) {
			for _, m := range use.FindAllStringSubmatch(code, -1) {
				words := strings.Fields(m[1])
				end := slices.IndexFunc(words, func(w string) bool {
					return w == "--" || w == "&&" || strings.IndexFunc(w, unicode.IsUpper) == 0 || strings.HasPrefix(w, "{")
				})
				if end >= 0 {
					words = words[:end]
				}
				if len(words) > 0 {
					out = append(out, command{paper, words})
				}
			}
		}
	}
	if len(out) == 0 {
		t.Errorf("the papers never say %s", program)
	}
	return out
}

// codeOf returns the code spans of a paper, and the lines of its fenced and indented code other than examples of the language.
func codeOf(text string) []string {
	var out []string
	span := regexp.MustCompile("`([^`]+)`")
	fence := ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch mark, is := strings.CutPrefix(line, "```"); {
		case is && fence == "":
			fence = "```" + mark
		case is:
			fence = ""
		case fence == "```console" && strings.HasPrefix(line, "$ "):
			out = append(out, strings.TrimPrefix(line, "$ "))
		case fence != "":
		case strings.HasPrefix(line, "    "):
			out = append(out, strings.TrimSpace(line))
		default:
			for _, m := range span.FindAllStringSubmatch(line, -1) {
				out = append(out, m[1])
			}
		}
	}
	return out
}

// fences returns the fenced blocks of one language.
func fences(text, language string) []string {
	var out []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		out = append(out, m[1])
	}
	return out
}

func withoutCode(text string) string {
	text = regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(text, "")
	return regexp.MustCompile("`[^`\n]*`").ReplaceAllString(text, "code")
}

// headings returns the anchors of a paper's headings.
func headings(text string) []string {
	var out []string
	for line := range strings.Lines(withoutCode(text)) {
		if title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
			anchor := strings.Map(func(r rune) rune {
				switch {
				case r == ' ':
					return '-'
				case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
					return unicode.ToLower(r)
				}
				return -1
			}, strings.TrimSpace(title))
			out = append(out, anchor)
		}
	}
	return out
}
