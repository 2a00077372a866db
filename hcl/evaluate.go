package hcl

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"

	"berth.dev/berth/api"
	"berth.dev/berth/hcl/functions"
)

// Options is what an evaluation needs beside the files.
type Options struct {
	Vars    []VarSource // -var and -var-file in their order on the command line
	Env     []string    // the environment, "NAME=value": BERTH_VAR_name is looked for; commands of inventories run in it
	Prior   *api.State  // services keep the addresses and ports that they have there; nil for none
	Version string      // of Berth, for required_version; one that is no version satisfies everything
	// System adds the objects of Berth's own workloads: the DNS servers. Without it a cluster has no DNS of its own.
	System bool

	// BuildImage builds an image block's image and returns its reference by digest. It is called from several goroutines.
	// The sources of its copies are as they were written: relative ones are relative to the configuration's directory.
	// Nil builds nothing: references then get a digest of zeros, which is enough to check a configuration.
	BuildImage func(ctx context.Context, image *api.Image) (ref string, err error)
	// RunCommand runs the command of an inventory "exec" block and returns its standard output; nil runs it here, for at most a
	// minute.
	RunCommand func(ctx context.Context, c Command) ([]byte, error)
	// Now tells the time for timestamp() and plantimestamp(); nil means the clock.
	Now func() time.Time
}

// Evaluate makes the configuration of a module that Parse read without errors. All errors are collected; with errors
// the configuration is nil. Object values hold what the user set, the name and namespace, and what Berth chose: cluster IPs and
// node ports of services, digests of images. Everything is sorted, and the same input gives the same configuration.
func (m *Module) Evaluate(ctx context.Context, o Options) (*api.Config, api.Diagnostics) {
	if diags := m.settings.checkVersion(o.Version); diags.HasErrors() {
		return nil, publish(diags)
	}
	e := newEvaluation(ctx, m, o)
	diags := e.build()
	e.graph.connect()
	if d := e.graph.cycle(); d != nil {
		return nil, publish(append(diags, d))
	}
	e.graph.walk(func(batch []*vertex) { diags = append(diags, e.visit(batch)...) })
	diags = append(append(diags, e.late...), e.finish()...)
	out := unique(append(publish(diags), e.found...))
	if out.HasErrors() {
		return nil, out
	}
	return e.config, out
}

// evaluation is one run of Evaluate.
type evaluation struct {
	ctx       context.Context
	mod       *Module
	opts      Options
	functions map[string]function.Function
	path      cty.Value
	inputs    map[string]input
	graph     graph

	config       *api.Config
	allocations  *api.Allocations // once the cluster is known; nil when it has errors
	nodes        map[string]*api.Node
	nodeValues   map[string]cty.Value
	blocks       map[string]*evaluated // by address of the block
	late         hcl2.Diagnostics      // found where none can be returned
	found        api.Diagnostics       // of validation, which speaks of objects
	clusterFence *api.Fence            // of the nodes that have none of their own
	dns          *dnsSettings          // nil while the cluster is not known
}

func newEvaluation(ctx context.Context, m *Module, o Options) *evaluation {
	now := o.Now
	if now == nil {
		now = time.Now
	}
	return &evaluation{
		ctx: ctx, mod: m, opts: o,
		functions: functions.Table(functions.Options{Dir: m.abs, Now: now, Plan: now()}),
		path:      pathValue(m),
		graph:     graph{vertices: map[string]*vertex{}},
		config:    &api.Config{Dir: m.abs},
		nodes:     map[string]*api.Node{}, nodeValues: map[string]cty.Value{}, blocks: map[string]*evaluated{},
	}
}

// pathValue is path.module, path.root and path.cwd.
func pathValue(m *Module) cty.Value {
	cwd, err := os.Getwd()
	if err != nil {
		cwd = "."
	}
	here := cty.StringVal(filepath.ToSlash(filepath.Clean(m.dir)))
	return cty.ObjectVal(map[string]cty.Value{"module": here, "root": here, "cwd": cty.StringVal(filepath.ToSlash(cwd))})
}

// build makes the vertices of everything that is declared and resolves their references.
func (e *evaluation) build() hcl2.Diagnostics {
	inputs, diags := e.mod.inputs(e.opts)
	e.inputs = inputs
	diags = append(diags, e.addCluster()...)
	for _, name := range slices.Sorted(maps.Keys(e.mod.variables)) {
		diags = append(diags, e.addVariable(e.mod.variables[name])...)
	}
	for _, name := range slices.Sorted(maps.Keys(e.mod.locals)) {
		diags = append(diags, e.addLocal(e.mod.locals[name])...)
	}
	for _, name := range slices.Sorted(maps.Keys(e.mod.outputs)) {
		diags = append(diags, e.addOutput(e.mod.outputs[name])...)
	}
	diags = append(diags, e.addNodes()...)
	for _, id := range slices.Sorted(maps.Keys(e.mod.objects)) {
		diags = append(diags, e.addObject(e.mod.objects[id])...)
	}
	return diags
}

// visit evaluates vertices that are ready, one after the other; images are built together.
func (e *evaluation) visit(batch []*vertex) hcl2.Diagnostics {
	if batch[0].class == allocationClass {
		return e.allocate(batch)
	}
	var diags hcl2.Diagnostics
	for _, v := range batch {
		e.taint(v)
		value, more := v.run(v)
		v.value = value
		v.failed = v.failed || v.tainted || more.HasErrors()
		diags = append(diags, more...)
	}
	if batch[0].class == imageClass {
		diags = append(diags, e.buildImages(batch)...)
	}
	return diags
}

// taint notes that something a vertex refers to has no value because of an error.
func (e *evaluation) taint(v *vertex) {
	v.tainted = len(v.wrong) > 0
	for id := range v.needs {
		v.tainted = v.tainted || e.graph.vertices[id].failed
	}
}

func (e *evaluation) addVariable(v *variable) hcl2.Diagnostics {
	x := e.graph.add(&vertex{id: "var." + v.name, label: "var." + v.name, place: v.place})
	x.run = func(x *vertex) (cty.Value, hcl2.Diagnostics) {
		given, place, source, diags := cty.NilVal, v.place, "", hcl2.Diagnostics(nil)
		if in, ok := e.inputs[v.name]; ok {
			given, place, diags = in.value(v)
			source = in.source
		}
		if diags.HasErrors() {
			return cty.DynamicVal, diags
		}
		value, more := v.final(given, place, source)
		diags = append(diags, more...)
		if more.HasErrors() {
			return cty.DynamicVal, diags
		}
		x.value = value
		ctx := e.scope(x)
		addTo(ctx, "var", v.name, value)
		if more := v.check(ctx); more.HasErrors() {
			return cty.DynamicVal, append(diags, more...)
		}
		return value, diags
	}
	return e.graph.refer(e.mod, x, v.traversals(), noInstance)
}

func (e *evaluation) addLocal(attr *hcl2.Attribute) hcl2.Diagnostics {
	x := e.graph.add(&vertex{id: "local." + attr.Name, label: "local." + attr.Name, place: attr.NameRange})
	x.run = func(x *vertex) (cty.Value, hcl2.Diagnostics) {
		ctx := e.scope(x)
		x.links = e.linksOf(x, ctx)
		value, diags := attr.Expr.Value(ctx)
		if diags.HasErrors() {
			value = cty.DynamicVal
		}
		return value, diags
	}
	return e.graph.refer(e.mod, x, attr.Expr.Variables(), noInstance)
}

func (e *evaluation) addOutput(o *output) hcl2.Diagnostics {
	x := e.graph.add(&vertex{id: "output." + o.name, label: "output." + o.name, place: o.place})
	x.run = func(x *vertex) (cty.Value, hcl2.Diagnostics) {
		out, diags := o.evaluate(e.scope(x))
		if out != nil {
			e.config.Outputs = append(e.config.Outputs, out)
		}
		return cty.DynamicVal, diags
	}
	return e.graph.refer(e.mod, x, o.traversals(), noInstance)
}

// addCluster makes the vertex of the cluster, which services wait for.
func (e *evaluation) addCluster() hcl2.Diagnostics {
	block := e.mod.settings.cluster
	x := e.graph.add(&vertex{id: idCluster, label: "the cluster block"})
	x.run = func(x *vertex) (cty.Value, hcl2.Diagnostics) {
		cluster, diags := evaluateCluster(block, e.scope(x))
		if diags.HasErrors() {
			return cty.DynamicVal, diags
		}
		dns, more := evaluateDNS(block, cluster, e.scope(x))
		if diags = append(diags, more...); diags.HasErrors() {
			return cty.DynamicVal, diags
		}
		if e.dns = dns; dns.enabled && e.opts.System {
			address, d := dns.address(cluster.ServiceCIDR)
			if d != nil {
				return cty.DynamicVal, append(diags, d)
			}
			cluster.DNS = address
		}
		e.config.Cluster = cluster
		fence, more := clusterFence(block, e.scope(x))
		e.clusterFence, diags = fence, append(diags, more...)
		allocations, err := api.NewAllocations(cluster, e.opts.Prior)
		if err != nil {
			return cty.DynamicVal, append(diags, errorAt(x.place, "Invalid cluster", "%s.", err))
		}
		e.allocations = allocations
		fields := map[string]cty.Value{}
		for _, f := range clusterFields {
			fields[f.name] = f.value(&cluster)
		}
		return cty.ObjectVal(fields), diags
	}
	if block == nil {
		return nil
	}
	x.place = block.DefRange
	attrs, _ := block.Body.JustAttributes() // blocks are what evaluateCluster finds fault with
	var diags hcl2.Diagnostics
	traversals := slices.Concat(fenceTraversals(block), dnsTraversals(block), loadBalancerTraversals(block), housekeepingTraversals(block))
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		traversals = append(traversals, attrs[name].Expr.Variables()...)
	}
	return append(diags, e.graph.refer(e.mod, x, traversals, noInstance)...)
}

// noInstance refuses each and count where there are no instances.
func noInstance(ref *reference) *hcl2.Diagnostic {
	if ref.target == idEach || ref.target == idCount {
		return errorAt(ref.place, "Invalid reference", "%q has a value only in blocks that have %s. Use it inside such a block.", ref.root,
			map[string]string{idEach: "for_each", idCount: "count"}[ref.target])
	}
	return nil
}
