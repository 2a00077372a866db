package api

// Proof says how well an item of a rebuilt state is known.
type Proof string

// The proofs.
const (
	// Proven: the hosts show it themselves, or keep it in a copy of the state that is the last one.
	Proven Proof = "proven"
	// Inferred: it follows from one source, an older copy or the configuration, and nothing contradicts it.
	Inferred Proof = "inferred"
	// Unknown: nothing could be asked about it.
	Unknown Proof = "unknown"
)

// RebuiltItem is one thing in a rebuilt state, or one that could not be brought back.
type RebuiltItem struct {
	Address Address `json:"address"`
	Node    string  `json:"node,omitempty"`
	Proof   Proof   `json:"proof"`
	Why     string  `json:"why"`
	Left    bool    `json:"left_out,omitempty"` // it is not in the state
}
