package schedule

// filterNodeName refuses all nodes but the one that the pod names.
func filterNodeName() filter {
	return filter{
		name:    "NodeName",
		reach:   fixed,
		running: true,
		compile: func(r *request) check {
			name := r.nodeName()
			if name == "" {
				return nil
			}
			return func(n *node) []Reason {
				if n.Name == name {
					return nil
				}
				return []Reason{{Text: "node(s) didn't match the requested node name", Detail: "node_name is " + name}}
			}
		},
		only: func(r *request) string { return "of that name" },
	}
}

func (r *request) nodeName() string {
	if r.Spec == nil {
		return ""
	}
	return r.Spec.NodeName
}
