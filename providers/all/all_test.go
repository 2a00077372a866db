package all_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/api"
	"berth.dev/berth/providers/all"
	"berth.dev/berth/providers/image"
)

func registry() all.Options {
	return all.Options{Images: image.NewBuilder(image.BuilderOptions{})}
}

func TestOrder(t *testing.T) {
	t.Parallel()
	var names []string
	for _, p := range all.Registry(registry()) {
		names = append(names, p.Name())
	}
	if d := cmp.Diff([]string{"node", "network", "image", "volume", "runtime", "proxy", "dns"}, names); d != "" {
		t.Errorf("providers (-want +got):\n%s", d)
	}
}

// Every operation of api is carried out by just one provider, but for the two that change the state alone.
// onNoHost are the operations of the executor itself.
var onNoHost = []api.Op{api.OpRecord, api.OpForget, api.OpJobRun, api.OpPause, api.OpAnalyseCommand, api.OpFence}

func TestEveryOperationHasOneProvider(t *testing.T) {
	t.Parallel()
	carried := map[api.Op][]string{}
	for _, p := range all.Registry(registry()) {
		for _, op := range p.Ops() {
			carried[op] = append(carried[op], p.Name())
		}
	}
	ops := operations(t)
	if !slices.Contains(ops, api.OpPodEnsure) || !slices.Contains(ops, api.OpForget) {
		t.Fatalf("the operations were not found in api's source: %v", ops)
	}
	for _, op := range ops {
		want := 1
		if slices.Contains(onNoHost, op) {
			want = 0
		}
		if len(carried[op]) != want {
			t.Errorf("%s is carried out by %q", op, carried[op])
		}
		delete(carried, op)
	}
	for op, by := range carried {
		t.Errorf("%q carries out %s, which api does not know", by, op)
	}
}

// operations reads the constants of type Op from api's source, so that a new one cannot be forgotten.
func operations(t *testing.T) []api.Op {
	t.Helper()
	files, err := filepath.Glob("../../api/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var ops []api.Op
	for _, path := range files {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if v, ok := n.(*ast.ValueSpec); ok && isOp(v.Type) {
				for _, value := range v.Values {
					text, err := strconv.Unquote(value.(*ast.BasicLit).Value)
					if err != nil {
						t.Fatal(err)
					}
					ops = append(ops, api.Op(text))
				}
			}
			return true
		})
	}
	return ops
}

func isOp(e ast.Expr) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == "Op"
}
