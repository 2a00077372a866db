package berth

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const module = "berth.dev/berth/"

// allowed says which of our packages a folder may import: the table of design.md section 2, tightened as
// style.md section 5 asks. A trailing "/..." allows everything below. The longest matching folder decides.
var allowed = map[string][]string{
	".":                                     {},
	"api":                                   {},
	"hcl":                                   {"api", "hcl/..."},
	"planner":                               {"api", "planner/..."},
	"planner/schedule":                      {"api"},
	"planner/rollout":                       {"api"},
	"planner/diff":                          {"api"},
	"planner/graph":                         {"api"},
	"planner/admission":                     {"api"},
	"planner/planfile":                      {"api"},
	"executor":                              {"api", "providers", "executor/..."},
	"executor/ssh":                          {"api", "providers"},
	"providers":                             {"api"},
	"providers/runtime":                     {"api", "providers", "providers/runtime/...", "providers/internal/..."},
	"providers/runtime/life":                {"api"},
	"providers/image":                       {"api", "providers", "providers/image/...", "providers/internal/...", "providers/runtime/life"},
	"providers/network":                     {"api", "providers", "providers/internal/..."},
	"providers/proxy":                       {"api", "providers", "providers/internal/..."},
	"providers/dns":                         {"api", "providers", "providers/internal/..."},
	"providers/volume":                      {"api", "providers", "providers/internal/..."},
	"providers/node":                        {"api", "providers", "providers/internal/..."},
	"providers/statecopy":                   {"api", "providers", "providers/internal/..."},
	"providers/nodegoal":                    {"api", "providers", "providers/internal/..."},
	"providers/internal":                    {"api", "providers", "providers/internal/..."},
	"providers/providertest":                {"api", "providers"},
	"providers/all":                         {"providers", "providers/..."},
	"statefile":                             {"api", "statefile/internal/..."},
	"statefile/seal":                        {"api", "statefile", "statefile/internal/..."},
	"statefile/backend":                     {"api", "statefile", "statefile/backend/internal/..."},
	"statefile/backend/internal/servertest": {"api", "statefile", "statefile/statetest"}, // of tests alone
	"statefile/backend/all":                 {"api", "statefile", "statefile/..."},
	"statefile/statetest":                   {"api", "statefile"},
	"watchdog":                              {"api"},
	"internal/lab":                          {"internal/lab/..."},
	"internal/clusterdns":                   {"api"},
	"cmd":                                   {"..."},
	"e2e":                                   {"..."},
	"examples":                              {},
	"scripts":                               {"..."},

	"internal/simhost":         {"api", "providers", "internal/simhost/..."},
	"internal/simhost/simtest": {"..."}, // whole rounds on simulated hosts
}

// forbidden says which packages of the standard library and beyond a folder must not import, tests apart.
var forbidden = map[string][]string{
	"planner": {"os", "net", "net/http", "math/rand", "math/rand/v2"},
	"api":     {"os", "net", "net/http", "math/rand", "math/rand/v2"},

	"providers/runtime/life": {"os", "net", "net/http", "context", "sync", "math/rand", "math/rand/v2"},
	"":                       {"k8s.io/kubernetes"},
}

func TestImports(t *testing.T) {
	walkGo(t, func(path, dir string) {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			t.Error(err)
			return
		}
		test := strings.HasSuffix(path, "_test.go")
		for _, spec := range f.Imports {
			imp, _ := strconv.Unquote(spec.Path.Value)
			if ours, ok := strings.CutPrefix(imp, module); ok {
				if !test && ours != dir && !mayImport(dir, ours) {
					t.Errorf("%s imports %s: the table in arch_test.go does not allow it", path, ours)
				}
				continue
			}
			for room, list := range forbidden {
				for _, bad := range list {
					if !test && (room == "" || dir == room || strings.HasPrefix(dir, room+"/")) && imp == bad {
						t.Errorf("%s imports %s: %s must not", path, imp, room)
					}
				}
			}
		}
	})
}

func TestPlannerReadsNoClock(t *testing.T) {
	walkGo(t, func(path, dir string) {
		if strings.HasSuffix(path, "_test.go") || (dir != "planner" && dir != "api" && dir != "providers/runtime/life" && !strings.HasPrefix(dir, "planner/")) {
			return
		}
		src := read(t, path)
		for _, bad := range []string{"time.Now(", "time.Since(", "time.After("} {
			if strings.Contains(src, bad) {
				t.Errorf("%s calls %s…): decisions must not depend on the clock", path, bad)
			}
		}
	})
}

func TestPackageDocs(t *testing.T) {
	documented, seen := map[string]bool{}, map[string]string{}
	walkGo(t, func(path, dir string) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Error(err)
			return
		}
		seen[dir] = f.Name.Name
		if f.Doc != nil && strings.TrimSpace(f.Doc.Text()) != "" {
			documented[dir] = true
		}
	})
	for dir := range seen {
		if !documented[dir] {
			t.Errorf("package %s has no package comment: say what it is, what it never does and where to start reading", dir)
		}
	}
}

func TestNoInit(t *testing.T) {
	walkGo(t, func(path, dir string) {
		if strings.Contains(read(t, path), "\nfunc init() {") {
			t.Errorf("%s has an init function: pass values instead", path)
		}
	})
}

func mayImport(dir, imp string) bool {
	for d := dir; ; d = filepath.Dir(d) {
		if rules, ok := allowed[d]; ok {
			for _, r := range rules {
				prefix, all := strings.CutSuffix(r, "...")
				if imp == r || all && (prefix == "" || strings.HasPrefix(imp+"/", prefix)) {
					return true
				}
			}
			return false
		}
		if d == "." {
			return false
		}
	}
}

func walkGo(t *testing.T, visit func(path, dir string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if !d.IsDir() && strings.HasSuffix(path, ".go") {
			visit(path, filepath.ToSlash(filepath.Dir(path)))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Deployments have fields of our own: a switch over values that names Kubernetes' type would never meet one.
func TestDeploymentsAreOurs(t *testing.T) {
	kubernetes := regexp.MustCompile(`\bappsv1[.]Deployment\b`)
	walkGo(t, func(path, dir string) {
		if kubernetes.MatchString(read(t, path)) {
			t.Errorf("%s names Kubernetes' Deployment: objects hold *api.Deployment", path)
		}
	})
}
