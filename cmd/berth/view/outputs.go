package view

import "berth.dev/berth/api"

// Outputs paints name = value, one each.
func (s Stream) Outputs(outs []*api.Output) {
	width := 0
	for _, o := range outs {
		width = max(width, len(o.Name))
	}
	for _, o := range outs {
		value := hclValue(o.Value, 2)
		if o.Sensitive {
			value = "<sensitive>"
		}
		s.Printf("%-*s = %s\n", width, o.Name, value)
	}
}

// Value paints the value of one output, also a sensitive one: it was asked for by name.
func (s Stream) Value(o *api.Output) { s.Println(hclValue(o.Value, 2)) }
