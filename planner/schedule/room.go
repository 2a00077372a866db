package schedule

import "fmt"

// Room returns nil when a node has room for a pod beside those that have their place there, else an error with the
// reason. Only the rules that look at other pods are asked: what they take and the ports that they hold. It is
// for callers that know the node already and order who comes and who goes.
func (s *Scheduler) Room(p Pod, nodeName string) error {
	n := s.byName[nodeName]
	if n == nil {
		return fmt.Errorf("node %s is not in the inventory", nodeName)
	}
	for _, c := range s.shapeOf(p).checks {
		if c.reach == fixed {
			continue
		}
		if reasons := c.check(n); reasons != nil {
			return fmt.Errorf("node %s: %s", nodeName, joinReasons(reasons))
		}
	}
	return nil
}
