package functions_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"golang.org/x/crypto/bcrypt"

	"berth.dev/berth/hcl/functions"
)

// terraform lists the functions of Terraform 1.11.4.
const terraform = `abs abspath alltrue anytrue base64decode base64encode base64gzip base64sha256 base64sha512 basename bcrypt can
	ceil chomp chunklist cidrhost cidrnetmask cidrsubnet cidrsubnets coalesce coalescelist compact concat contains csvdecode dirname
	distinct element endswith ephemeralasnull file filebase64 filebase64sha256 filebase64sha512 fileexists filemd5 fileset filesha1
	filesha256 filesha512 flatten floor format formatdate formatlist indent index issensitive join jsondecode jsonencode keys length
	log lookup lower matchkeys max md5 merge min nonsensitive one parseint pathexpand plantimestamp pow range regex regexall replace
	reverse rsadecrypt sensitive setintersection setproduct setsubtract setunion sha1 sha256 sha512 signum slice sort split startswith
	strcontains strrev substr sum templatefile templatestring textdecodebase64 textencodebase64 timeadd timecmp timestamp title tobool
	tolist tomap tonumber toset tostring transpose trim trimprefix trimspace trimsuffix try upper urlencode uuid uuidv5 values
	yamldecode yamlencode zipmap`

func TestTableIsComplete(t *testing.T) {
	t.Parallel()
	table := functions.Table(functions.Options{})
	names := strings.Fields(terraform)
	if len(names) != 118 {
		t.Fatalf("the list has %d names", len(names))
	}
	for _, name := range append(names, "base64gunzip", "cidrcontains", "convert", "urldecode") {
		for _, n := range []string{name, "core::" + name} {
			if _, ok := table[n]; !ok {
				t.Errorf("no function %s", n)
			}
		}
	}
}

func evaluate(t *testing.T, dir, expr string, vars map[string]cty.Value) (cty.Value, hcl2.Diagnostics) {
	t.Helper()
	e, diags := hclsyntax.ParseExpression([]byte(expr), "expr", hcl2.InitialPos)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	return e.Value(&hcl2.EvalContext{Variables: vars, Functions: functions.Table(functions.Options{
		Dir: dir, Now: func() time.Time { return at.Add(time.Hour) }, Plan: at,
	})})
}

// TestResults holds what the conformance file has not: files, time, and the rarer functions. A want of "error: …" is part of the message.
func TestResults(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"a.txt": "hello\n", "sub/b.txt": "b", "sub/c.json": "{}", "greet.tftpl": "Hi %{ for n in names }${upper(n)} %{ endfor }",
		"outer.tftpl": `<${templatefile("inner.tftpl", { x = x })}>`, "inner.tftpl": "${x}", "self.tftpl": `${templatefile("self.tftpl", {})}`,
		"latin1": "\xff",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for expr, want := range map[string]string{
		`file("a.txt")`:             "hello\n",
		`file("./sub/../a.txt")`:    "hello\n",
		`file("nope.txt")`:          "error: no file exists at \"nope.txt\"",
		`file("sub")`:               "error: not a regular file, but a directory",
		`file("/dev/zero")`:         "error: not a regular file, but a device node",
		`file("latin1")`:            "error: not valid UTF-8",
		`filebase64("latin1")`:      "/w==",
		`filemd5("a.txt")`:          "b1946ac92492d2347c6235b4d2611184",
		`filesha1("a.txt")`:         "f572d396fae9206628714fb2ce00f72e94f2258f",
		`filebase64sha256("a.txt")`: "WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM=",
		`tostring(filesha512("a.txt") == sha512(file("a.txt")))`:                 "true",
		`tostring(fileexists("a.txt"))`:                                          "true",
		`tostring(fileexists("b.txt"))`:                                          "false",
		`tostring(fileexists("sub"))`:                                            "error: not a regular file",
		`join(",", fileset(".", "**/*"))`:                                        "a.txt,greet.tftpl,inner.tftpl,latin1,outer.tftpl,self.tftpl,sub/b.txt,sub/c.json",
		`join(",", fileset("sub", "*.{txt,json}"))`:                              "b.txt,c.json",
		`join(",", fileset("sub", "[z"))`:                                        "error: not a valid pattern",
		`join(",", fileset("sub", "x*"))`:                                        "",
		`abspath("x")`:                                                           filepath.Join(dir, "x"),
		`templatefile("greet.tftpl", { names = ["a", "b"] })`:                    "Hi A B ",
		`templatefile("greet.tftpl", { name = "a" })`:                            `error: vars map does not contain key "names"`,
		`templatefile("greet.tftpl", "a")`:                                       "error: must be a map",
		`templatefile("greet.tftpl", { "a b" = 1 })`:                             "error: invalid template variable name",
		`templatefile("outer.tftpl", { x = "y" })`:                               "<y>",
		`templatefile("self.tftpl", {})`:                                         "error: nested more than 64 deep",
		`templatestring("$${a}-$${b}", { a = 1, b = true })`:                     "1-true",
		`plantimestamp()`:                                                        "2026-01-02T02:04:05Z",
		`timestamp()`:                                                            "2026-01-02T03:04:05Z",
		`tostring(timecmp("2026-01-01T00:00:00Z", "2026-01-01T00:00:00+01:00"))`: "1",
		`timecmp("yesterday", "x")`:                                              "error: not a timestamp",
		`base64gunzip(base64gzip("x y"))`:                                        "x y",
		`base64gunzip("eA==")`:                                                   "error: read gzip data",
		`urldecode(urlencode("a b&c=ü"))`:                                        "a b&c=ü",
		`urldecode("%zz")`:                                                       "error: invalid URL escape",
		`textdecodebase64(textencodebase64("grün", "UTF-16LE"), "UTF-16LE")`:     "grün",
		`textencodebase64("x", "nope")`:                                          "error: not a supported IANA encoding",
		`textencodebase64("日", "ISO-8859-1")`:                                    "error: cannot be represented",
		`textdecodebase64("gQ==", "windows-1250")`:                               "error: not defined for windows-1250",
		`tostring(cidrcontains("10.0.0.0/8", "10.1.0.0/16"))`:                    "true",
		`tostring(cidrcontains("10.0.0.0/8", "10.0.0.0/7"))`:                     "false",
		`tostring(cidrcontains("10.0.0.0/8", "11.0.0.1"))`:                       "false",
		`cidrcontains("10.0.0.0/8", "::1")`:                                      "error: address family mismatch",
		`cidrhost("010.001.000.000/16", 5)`:                                      "10.1.0.5",
		`cidrsubnets("10.0.0.0/30", 1, 1, 1)[0]`:                                 "error: not enough remaining address space",
		`lookup({ a = "x" }, "b", "y")`:                                          "y",
		`lookup({ a = "x" }, "b")`:                                               "error: no attribute",
		`lookup(tomap({ a = "x" }), "b")`:                                        "error: does not identify an element",
		`one([])  == null ? "null" : "x"`:                                        "null",
		`one(["x", "y"])`:                                                        "error: zero or one elements",
		`jsonencode(transpose({ a = ["x", "y"], b = ["y"] }))`:                   `{"x":["a"],"y":["a","b"]}`,
		`jsonencode(matchkeys(["a", "b", "c"], ["1", "2", "1"], ["1"]))`:         `["a","c"]`,
		`tostring(alltrue([]))`:                                                  "true",
		`tostring(alltrue([true, null]))`:                                        "false",
		`tostring(anytrue([null, true]))`:                                        "true",
		`tostring(sum([1, 2.5, "3"]))`:                                           "6.5",
		`sum([])`:                                                                "error: cannot sum an empty list",
		`tostring(length(range(2000)))`:                                          "2000",
		`range(0, 10, 0)`:                                                        "error: step must not be zero",
		`jsonencode(range(3, 0))`:                                                "[3,2,1]",
		`replace("a1b22", "/\\d+/", "#")`:                                        "a#b#",
		`replace("a/b", "/", "-")`:                                               "a-b",
		`replace("x", "/(/", "")`:                                                "error: error parsing regexp",
		`coalesce("", null, "x")`:                                                "x",
		`coalesce("", null)`:                                                     "error: no non-null, non-empty-string arguments",
		`tonumber("abc")`:                                                        `error: cannot convert "abc" to number`,
		`tonumber(sensitive("hunter2"))`:                                         "error: this sensitive string",
		`pathexpand("~other/x")`:                                                 "error: user-specific home dir",
		`bcrypt("x", 99)`:                                                        "error: cost must be from 4 to 31",
		`rsadecrypt("!", "k")`:                                                   "error: must be base64 encoded",
		`uuidv5("nope", "x")`:                                                    "error: doesn't support namespace nope",
	} {
		t.Run(expr, func(t *testing.T) {
			got, diags := evaluate(t, dir, expr, nil)
			if message, ok := strings.CutPrefix(want, "error: "); ok {
				if !diags.HasErrors() || !strings.Contains(diags.Error(), message) || strings.Contains(diags.Error(), "hunter2") {
					t.Errorf("want an error with %q, got %v %v", message, got, diags)
				}
				return
			}
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			if got.AsString() != want {
				t.Errorf("want %q, got %q", want, got.AsString())
			}
		})
	}
}

func TestRandomResults(t *testing.T) {
	t.Parallel()
	hash, diags := evaluate(t, "", `bcrypt("secret", 4)`, nil)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if err := bcrypt.CompareHashAndPassword([]byte(hash.AsString()), []byte("secret")); err != nil {
		t.Error(err)
	}
	ids, diags := evaluate(t, "", `[uuid(), uuid()]`, nil)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if v := ids.AsValueSlice(); v[0].RawEquals(v[1]) || len(v[0].AsString()) != 36 {
		t.Errorf("got %s", ids.GoString())
	}
}

func TestRSADecrypt(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 what the function is defined for
	cipher, err := rsa.EncryptPKCS1v15(rand.Reader, &key.PublicKey, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	vars := map[string]cty.Value{
		"key":    cty.StringVal(string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))),
		"cipher": cty.StringVal(base64.StdEncoding.EncodeToString(cipher)),
	}
	got, diags := evaluate(t, "", "rsadecrypt(cipher, key)", vars)
	if diags.HasErrors() || got.AsString() != "secret" {
		t.Errorf("got %v %v", got, diags)
	}
}

// TestMarks follows the mark of sensitive values through the functions that treat marks themselves.
func TestMarks(t *testing.T) {
	t.Parallel()
	s := cty.StringVal("x").Mark(functions.Sensitive)
	vars := map[string]cty.Value{"s": s, "m": cty.MapVal(map[string]cty.Value{"a": s, "b": cty.StringVal("y")})}
	for expr, marked := range map[string]bool{
		`sensitive("a")`:                              true,
		`nonsensitive(s)`:                             false,
		`"${s}"`:                                      true,
		`length(m)`:                                   false,
		`length(s)`:                                   true,
		`lookup(m, "b", "")`:                          false,
		`lookup(m, "a", "")`:                          true,
		`lookup(m, "zz", s)`:                          true,
		`lookup({ a = 1 }, s, 2)`:                     true,
		`tomap({ a = s, b = "y" })["b"]`:              false,
		`tomap({ a = s, b = "y" })["a"]`:              true,
		`templatestring("$${v}", { v = s })`:          true,
		`templatestring("$${v}", { v = "a", w = s })`: false,
		`templatestring(s, {})`:                       true,
		`sha256(s)`:                                   true,
		`issensitive(s)`:                              false,
		`coalesce(s, "y")`:                            true,
	} {
		got, diags := evaluate(t, "", expr, vars)
		if diags.HasErrors() {
			t.Errorf("%s: %v", expr, diags)
		} else if functions.IsSensitive(got) != marked {
			t.Errorf("%s: sensitive is %t", expr, !marked)
		}
	}
}

func TestExceptionsExist(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../testdata/functions.json")
	if err != nil {
		t.Fatal(err)
	}
	missing := slices.DeleteFunc(slices.Collect(maps.Keys(exceptions)), func(e string) bool {
		quoted := strings.ReplaceAll(strings.ReplaceAll(e, `\`, `\\`), `"`, `\"`)
		return strings.Contains(string(b), quoted) || strings.Contains(string(b), strings.ReplaceAll(quoted, "&", `\u0026`))
	})
	if len(missing) > 0 {
		t.Errorf("exceptions that are not in the file: %q", missing)
	}
}
