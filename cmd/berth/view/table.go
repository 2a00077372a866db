package view

import (
	"fmt"
	"strings"
	"time"
)

// Table paints rows under headings in Kubernetes' manner: columns three spaces apart, nothing after the last.
func (s Stream) Table(headings []string, rows [][]string) { s.Columns(headings).Print(rows) }

// Columns is a table that grows: rows may come later, under the headings that the first ones were given.
type Columns struct {
	s        Stream
	headings []string // nil when they are not to be shown, or were
	width    []int
}

// Columns begins a table; nil headings are left out.
func (s Stream) Columns(headings []string) *Columns { return &Columns{s: s, headings: headings} }

// Print paints rows. Columns become wider with them, never narrower.
func (c *Columns) Print(rows [][]string) {
	if c.headings != nil {
		rows = append([][]string{c.headings}, rows...)
		c.headings = nil
	}
	for _, row := range rows {
		c.width = append(c.width, make([]int, max(0, len(row)-len(c.width)))...)
		for i, cell := range row {
			c.width[i] = max(c.width[i], len([]rune(cell)))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			if i == len(row)-1 {
				b.WriteString(cell)
				break
			}
			fmt.Fprintf(&b, "%-*s   ", c.width[i], cell)
		}
		c.s.Println(strings.TrimRight(b.String(), " "))
	}
}

// Age writes a duration as Kubernetes does: 5s, 2m30s, 10m, 3h25m, 5h, 2d, 3y40d (semantics.md 8.3).
func Age(d time.Duration) string {
	switch s := int(d.Seconds()); {
	case s < -1:
		return "<invalid>"
	case s < 0:
		return "0s"
	case s < 120:
		return fmt.Sprintf("%ds", s)
	}
	m := int(d.Minutes())
	switch {
	case m < 10:
		return two(m, "m", int(d.Seconds())%60, "s")
	case m < 3*60:
		return fmt.Sprintf("%dm", m)
	}
	h := int(d.Hours())
	switch {
	case h < 8:
		return two(h, "h", m%60, "m")
	case h < 48:
		return fmt.Sprintf("%dh", h)
	case h < 192:
		return two(h/24, "d", h%24, "h")
	case h < 24*365*2:
		return fmt.Sprintf("%dd", h/24)
	case h < 24*365*8:
		return two(h/24/365, "y", h/24%365, "d")
	}
	return fmt.Sprintf("%dy", h/24/365)
}

func two(a int, au string, b int, bu string) string {
	if b == 0 {
		return fmt.Sprintf("%d%s", a, au)
	}
	return fmt.Sprintf("%d%s%d%s", a, au, b, bu)
}
