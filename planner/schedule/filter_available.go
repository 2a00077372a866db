package schedule

// filterAvailable refuses nodes that cannot take pods at present, such as unreachable ones. Kubernetes knows
// this as taints that its controllers add; here the caller gives the reason.
func filterAvailable() filter {
	return filter{
		name:  "NodeAvailable",
		reach: fixed,
		compile: func(*request) check {
			return func(n *node) []Reason {
				if n.NotAvailable == "" {
					return nil
				}
				return []Reason{{Text: "node(s) were not available", Detail: n.NotAvailable}}
			}
		},
		only: func(*request) string { return "that is available" },
	}
}
