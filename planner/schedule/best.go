package schedule

// scratch is memory that one placement after another uses.
type scratch struct {
	left   []*node
	points []int64
	totals []int64
}

// choice is the best node with what is needed to say why.
type choice struct {
	node  *node
	left  int // nodes that no filter refused
	equal int // nodes with the best total, the chosen one among them
}

// best rates the nodes that no filter refuses and returns the one with the highest total; of equal ones
// that with the lowest hash of pod and node.
func (s *Scheduler) best(sh *shape, key string) choice {
	left := s.scratch.left[:0]
	for i, n := range s.nodes {
		if sh.refused[i] == nil {
			left = append(left, n)
		}
	}
	s.scratch.left = left
	totals := s.totals(sh, left)
	c := choice{left: len(left)}
	var top int64
	var hash uint64
	for i, n := range left {
		t := totals[i]
		if c.node != nil && t < top {
			continue
		}
		h := tieHash(s.salt, key, n.Name)
		if c.node != nil && t == top {
			c.equal++
			if h >= hash {
				continue
			}
		} else {
			c.equal = 1
		}
		c.node, top, hash = n, t, h
	}
	return c
}

// totals returns the weighted sum of the ratings of the nodes left, in their order.
func (s *Scheduler) totals(sh *shape, left []*node) []int64 {
	totals := resize(&s.scratch.totals, len(left))
	clear(totals)
	for r := range sh.ratings {
		points := s.points(sh, r, left)
		w := sh.ratings[r].weight
		for i := range points {
			totals[i] += w * points[i]
		}
	}
	for _, n := range left {
		sh.known[n.index] = n.version
	}
	return totals
}

// points returns one rating of the nodes left, normalised. Raw ratings are computed where they are not
// known from the shape's last placement.
func (s *Scheduler) points(sh *shape, r int, left []*node) []int64 {
	b, raw := sh.ratings[r], sh.raw[r]
	points := resize(&s.scratch.points, len(left))
	if b.prepare != nil {
		b.prepare(left)
	}
	for i, n := range left {
		k := sh.known[n.index]
		if k == 0 || b.reach == global || b.reach == local && k != n.version {
			raw[n.index] = b.rate(n)
		}
		points[i] = raw[n.index]
	}
	if b.normalize != nil {
		b.normalize(points)
	}
	return points
}

func resize(b *[]int64, n int) []int64 {
	if cap(*b) < n {
		*b = make([]int64, n)
	}
	*b = (*b)[:n]
	return *b
}

// tieHash is FNV-1a over its parts, finished by the mixer of SplitMix64 so that names which differ in their
// last digit alone end far apart.
func tieHash(parts ...string) uint64 {
	h := uint64(14695981039346656037)
	for _, p := range parts {
		for i := range len(p) {
			h = (h ^ uint64(p[i])) * 1099511628211
		}
		h = (h ^ 0xff) * 1099511628211
	}
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
