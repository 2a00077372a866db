package api

// Drift is one thing that is not as it was last applied.
type Drift struct {
	Node    string  `json:"node,omitempty"` // "" for what belongs to no one host
	Address Address `json:"address"`
	Problem string  `json:"problem"` // "container web exited (137)", "rules are missing"
	Repair  Action  `json:"repair"`  // what an apply does about it
}
