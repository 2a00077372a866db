package api

// Config is a configuration after evaluation: everything a plan needs to know of what the user wrote.
type Config struct {
	Dir     string // absolute
	Cluster Cluster
	Nodes   []*Node   // sorted by name
	Objects []*Object // sorted by address
	Outputs []*Output // sorted by name
}

// Output is one output value: JSON of its value and of its cty type.
type Output struct {
	Name        string  `json:"name"`
	Value       RawJSON `json:"value"`
	Type        RawJSON `json:"type"`
	Sensitive   bool    `json:"sensitive,omitempty"`
	Description string  `json:"description,omitempty"`
}
