package hcl_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/hcl"
)

func TestFormat(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"indent and align", "locals {\na=1\n    long   = [1,2]\n}\n", "locals {\n  a    = 1\n  long = [1, 2]\n}\n"},
		{"comments stay", "# top\nlocals { # here\n  a = \"${b}\" # there\n  /* in */ c = 1\n}\n# end\n", "# top\nlocals {         # here\n  a          = b # there\n  /* in */ c = 1\n}\n# end\n"},
		{"labels get quotes", "variable x {}\n", "variable \"x\" {}\n"},
		{"types lose quotes", "variable \"x\" {\n  type = \"list\"\n}\nvariable \"y\" {\n  type = \"string\"\n}\n", "variable \"x\" {\n  type = list(string)\n}\nvariable \"y\" {\n  type = string\n}\n"},
		{"types of several lines stay", "variable \"x\" {\n  type = object({\n    a = string # why\n  })\n}\n", "variable \"x\" {\n  type = object({\n    a = string # why\n  })\n}\n"},
		{"other types stay", "service \"x\" {\n  type = \"string\"\n}\n", "service \"x\" {\n  type = \"string\"\n}\n"},
		{"lone interpolation", "locals {\n  a = \"${var.x}\"\n  b = \"${upper(\"${var.x}\")}\"\n}\n", "locals {\n  a = var.x\n  b = upper(\"${var.x}\")\n}\n"},
		{"nested lone interpolation", "locals {\n  a = \"${\"${var.x}\"}\"\n}\n", "locals {\n  a = var.x\n}\n"},
		{"two interpolations stay", "locals {\n  a = \"${b}${c}\"\n  d = \"x${b}\"\n}\n", "locals {\n  a = \"${b}${c}\"\n  d = \"x${b}\"\n}\n"},
		{"trimming interpolation stays", "locals {\n  a = \"${~b~}\"\n}\n", "locals {\n  a = \"${~b~}\"\n}\n"},
		{"byte order mark goes", "\ufefflocals {}\n", "locals {}\n"},
		{"heredocs stay", "locals {\n  a = <<-EOT\n      x\n    y\n  EOT\n}\n", "locals {\n  a = <<-EOT\n      x\n    y\n  EOT\n}\n"},
		{"empty", "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, diags := hcl.Format([]byte(test.in), "main.hcl")
			if diags.HasErrors() {
				t.Fatal(diags.Err())
			}
			if d := cmp.Diff(test.want, string(got)); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
			again, _ := hcl.Format(got, "main.hcl")
			if d := cmp.Diff(string(got), string(again)); d != "" {
				t.Errorf("formatting twice (-once +twice)\n%s", d)
			}
		})
	}
}

func TestFormatInvalid(t *testing.T) {
	t.Parallel()
	got, diags := hcl.Format([]byte("locals {\n  a = \n}\n"), "main.hcl")
	if got != nil || !diags.HasErrors() || diags[0].Range == nil || diags[0].Range.Filename != "main.hcl" {
		t.Errorf("got %q, %v", got, diags)
	}
}
