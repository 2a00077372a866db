// Package functions is the function library of the configuration language: all of Terraform 1.11's functions, with
// the same results, and a few of OpenTofu's. Most come from cty's standard library; those here are the ones where
// Terraform differs from it or that it does not have. The functions touch nothing but files under the
// configuration's directory (or named by absolute path), which they only read.
//
// Three functions give another value on each evaluation: timestamp, uuid and bcrypt. A plan holds the value that
// they gave when it was made; the next plan shows a change wherever they are used. plantimestamp gives the
// time of the evaluation that the caller names.
//
// Start with [Table].
package functions

import (
	"maps"
	"time"

	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	ctyyaml "github.com/zclconf/go-cty-yaml"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// Options says what the functions of one evaluation see of the world.
type Options struct {
	Dir  string           // relative paths are relative to it
	Now  func() time.Time // for timestamp
	Plan time.Time        // for plantimestamp
}

// Table returns all functions by name, each also as core::name.
func Table(o Options) map[string]function.Function {
	table := base(o)
	addTemplates(table, o.Dir, 0)
	addCore(table)
	return table
}

func addCore(table map[string]function.Function) {
	for name, f := range maps.Clone(table) {
		table["core::"+name] = f
	}
}

// base is the library without the functions that render templates, which need the library themselves.
func base(o Options) map[string]function.Function {
	table := ours()
	maps.Copy(table, borrowed())
	maps.Copy(table, clock(o))
	maps.Copy(table, files(o.Dir))
	maps.Copy(table, hashes(o.Dir))
	return table
}

// ours are the functions of this package that depend on their arguments alone.
func ours() map[string]function.Function {
	return map[string]function.Function{
		"alltrue":          allTrue,
		"anytrue":          anyTrue,
		"base64decode":     base64Decode,
		"base64encode":     base64Encode,
		"base64gunzip":     base64Gunzip,
		"base64gzip":       base64Gzip,
		"basename":         baseName,
		"bcrypt":           bcryptHash,
		"cidrcontains":     cidrContains,
		"cidrhost":         cidrHost,
		"cidrnetmask":      cidrNetmask,
		"cidrsubnet":       cidrSubnet,
		"cidrsubnets":      cidrSubnets,
		"coalesce":         coalesce,
		"dirname":          dirName,
		"endswith":         endsWith,
		"ephemeralasnull":  ephemeralAsNull,
		"index":            index,
		"issensitive":      isSensitive,
		"length":           length,
		"lookup":           lookup,
		"matchkeys":        matchKeys,
		"nonsensitive":     nonSensitive,
		"one":              one,
		"range":            rangeNumbers,
		"replace":          replace,
		"rsadecrypt":       rsaDecrypt,
		"sensitive":        sensitive,
		"startswith":       startsWith,
		"strcontains":      strContains,
		"sum":              sum,
		"textdecodebase64": textDecodeBase64,
		"textencodebase64": textEncodeBase64,
		"timecmp":          timeCmp,
		"tobool":           makeTo(cty.Bool),
		"tolist":           makeTo(cty.List(cty.DynamicPseudoType)),
		"tomap":            makeTo(cty.Map(cty.DynamicPseudoType)),
		"tonumber":         makeTo(cty.Number),
		"toset":            makeTo(cty.Set(cty.DynamicPseudoType)),
		"tostring":         makeTo(cty.String),
		"transpose":        transpose,
		"urldecode":        urlDecode,
		"urlencode":        urlEncode,
		"uuid":             newUUID,
		"uuidv5":           uuidV5,
	}
}

// borrowed are those that libraries have as Terraform has them.
func borrowed() map[string]function.Function {
	return map[string]function.Function{
		"abs":             stdlib.AbsoluteFunc,
		"can":             tryfunc.CanFunc,
		"ceil":            stdlib.CeilFunc,
		"chomp":           stdlib.ChompFunc,
		"chunklist":       stdlib.ChunklistFunc,
		"coalescelist":    stdlib.CoalesceListFunc,
		"compact":         stdlib.CompactFunc,
		"concat":          stdlib.ConcatFunc,
		"contains":        stdlib.ContainsFunc,
		"convert":         typeexpr.ConvertFunc,
		"csvdecode":       stdlib.CSVDecodeFunc,
		"distinct":        stdlib.DistinctFunc,
		"element":         stdlib.ElementFunc,
		"flatten":         stdlib.FlattenFunc,
		"floor":           stdlib.FloorFunc,
		"format":          stdlib.FormatFunc,
		"formatdate":      stdlib.FormatDateFunc,
		"formatlist":      stdlib.FormatListFunc,
		"indent":          stdlib.IndentFunc,
		"join":            stdlib.JoinFunc,
		"jsondecode":      stdlib.JSONDecodeFunc,
		"jsonencode":      stdlib.JSONEncodeFunc,
		"keys":            stdlib.KeysFunc,
		"log":             stdlib.LogFunc,
		"lower":           stdlib.LowerFunc,
		"max":             stdlib.MaxFunc,
		"merge":           stdlib.MergeFunc,
		"min":             stdlib.MinFunc,
		"parseint":        stdlib.ParseIntFunc,
		"pow":             stdlib.PowFunc,
		"regex":           stdlib.RegexFunc,
		"regexall":        stdlib.RegexAllFunc,
		"reverse":         stdlib.ReverseListFunc,
		"setintersection": stdlib.SetIntersectionFunc,
		"setproduct":      stdlib.SetProductFunc,
		"setsubtract":     stdlib.SetSubtractFunc,
		"setunion":        stdlib.SetUnionFunc,
		"signum":          stdlib.SignumFunc,
		"slice":           stdlib.SliceFunc,
		"sort":            stdlib.SortFunc,
		"split":           stdlib.SplitFunc,
		"strrev":          stdlib.ReverseFunc,
		"substr":          stdlib.SubstrFunc,
		"timeadd":         stdlib.TimeAddFunc,
		"title":           stdlib.TitleFunc,
		"trim":            stdlib.TrimFunc,
		"trimprefix":      stdlib.TrimPrefixFunc,
		"trimspace":       stdlib.TrimSpaceFunc,
		"trimsuffix":      stdlib.TrimSuffixFunc,
		"try":             tryfunc.TryFunc,
		"upper":           stdlib.UpperFunc,
		"values":          stdlib.ValuesFunc,
		"yamldecode":      ctyyaml.YAMLDecodeFunc,
		"yamlencode":      ctyyaml.YAMLEncodeFunc,
		"zipmap":          stdlib.ZipmapFunc,
	}
}
