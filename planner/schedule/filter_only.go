package schedule

// filterOnly refuses all nodes but the one that the pod is for: a controller wants it there and nowhere else.
func filterOnly() filter {
	return filter{
		name:  "NodeAffinity",
		reach: fixed,
		compile: func(r *request) check {
			if r.Only == "" {
				return nil
			}
			return func(n *node) []Reason {
				if n.Name == r.Only {
					return nil
				}
				return []Reason{{Text: "node(s) didn't match Pod's node affinity/selector", Detail: "it is for " + r.Only}}
			}
		},
		only: func(r *request) string { return "that it is for" },
	}
}
