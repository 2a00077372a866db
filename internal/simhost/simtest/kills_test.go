package simtest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"

	"berth.dev/berth/api"
	"berth.dev/berth/planner"
)

// number reads how many of something a test shall do from the environment: `make soak` asks for more than `make test`.
func number(t testing.TB, name string, usual int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	must(t, err)
	return n
}

// TestRandomKills kills applies at random instants, the ones that come after them too. With SOAK_REBOOTS=1 some hosts lose their power between. Every time the
// state loads, no recorded step is lost, and the last apply comes to the end that all come to. SOAK_KILLS is how many, SOAK_SEED the first seed: a failing one is named and can be run alone.
func TestRandomKills(t *testing.T) {
	t.Parallel()
	var want string
	t.Run("without", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := before(t)
			_, err := c.Apply(t.Context())
			must(t, err)
			want = end(t, c)
		})
	})
	n, first := number(t, "SOAK_KILLS", 40), number(t, "SOAK_SEED", 1)
	var mu sync.Mutex
	kills := 0
	t.Run("seeds", func(t *testing.T) {
		for seed := first; seed < first+n; seed++ {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					k := randomKills(t, rand.New(rand.NewPCG(uint64(seed), 7)), want)
					mu.Lock()
					defer mu.Unlock()
					kills += k
				})
			})
		}
	})
	t.Logf("%d seeds from %d, %d kills", n, first, kills)
}

func randomKills(t *testing.T, chance *rand.Rand, want string) (kills int) {
	c := before(t)
	reboots := number(t, "SOAK_REBOOTS", 0) > 0
	for range 1 + chance.IntN(3) {
		r, err := c.Begin(t.Context(), planner.Options{})
		must(t, err)
		grave := t.TempDir()
		p := r.Start(grave)
		p.killAfter(c, chance.IntN(60+900/(kills+1)))
		killed, err := p.Run(t.Context())
		for _, h := range c.World.Hosts() {
			h.Before(nil)
		}
		if !killed {
			must(t, err)
			must(t, r.Close(t.Context()))
			break
		}
		kills++
		must(t, r.Close(t.Context()))
		if reboots && chance.IntN(5) == 0 {
			h := c.World.Hosts()[chance.IntN(len(c.World.Hosts()))]
			h.Reboot()
		}
		c = c.in(t, grave)
		nothingLost(t, c, p)
	}
	converges(t, c, want)
	return kills
}

// killAfter kills the process after a number of things that happened on hosts or in the journal.
func (p *Process) killAfter(c *Cluster, n int) {
	var mu sync.Mutex
	count := func() bool {
		mu.Lock()
		defer mu.Unlock()
		n--
		return n == 0
	}
	p.At = func(at Point, _ *api.Step) {
		if at != Acting && count() {
			p.Kill()
		}
	}
	for _, h := range c.World.Hosts() {
		h.Before(func(string) {
			if count() {
				go p.Kill() // it waits for this operation's call
			}
		})
	}
}
