package schedule

// filterVolumes refuses nodes other than the one that holds the pod's volumes. Volumes on two nodes leave
// none.
func filterVolumes() filter {
	return filter{
		name:    "VolumeBinding",
		reach:   fixed,
		running: true,
		compile: func(r *request) check {
			if len(r.Pins) == 0 {
				return nil
			}
			return func(n *node) []Reason {
				for _, p := range r.Pins {
					if p.Node != n.Name {
						return []Reason{{Text: "node(s) had volume node affinity conflict", Detail: pinDetail(p)}}
					}
				}
				return nil
			}
		},
		only: func(*request) string { return "that holds its volumes" },
	}
}

func pinDetail(p Pin) string {
	if p.Why == "" {
		return "must be on " + p.Node
	}
	return "must be on " + p.Node + ": " + p.Why
}
