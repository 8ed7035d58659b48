package audit

// group is what one flush writes. done is closed when it was written, or not: err.
type group struct {
	room    int // for how many rows
	proven  []Exchange
	guesses []folded // in the order of their first
	alike   map[guess]int
	nobodys int    // how many of the guesses are at keys that do not exist
	untold  uint64 // dropped before it
	done    chan struct{}
	err     error
}

// folded is a row of unproven exchanges.
type folded struct {
	Exchange
	after int // how many of the proven came before its first
}

// guess is what unproven exchanges have in common that become one row.
type guess struct{ workspaceID, keyID, action, outcome, address string }

// newGroup makes a group for so many rows, of which some are expected to be proven.
func newGroup(room, expected int) *group {
	return &group{room: room, proven: make([]Exchange, 0, expected), alike: map[guess]int{}, done: make(chan struct{})}
}

func (g *group) size() int { return len(g.proven) + len(g.guesses) }

// add reports whether there was room.
func (g *group) add(e *Exchange) bool {
	if e.Fold {
		return g.addGuess(*e)
	}
	if g.size() >= g.room {
		return false
	}
	g.proven = append(g.proven, *e)
	return true
}

// addAll returns how many exchanges found no room.
func (g *group) addAll(rows []Exchange) (lost uint64) {
	for i := range rows {
		if e := &rows[i]; !g.add(e) {
			lost += uint64(e.Count)
		}
	}
	return lost
}

// addGuess adds to the row of those alike. When there are too many rows, those of
// all further addresses are alike.
func (g *group) addGuess(e Exchange) bool {
	if e.nobodys() {
		e = e.ofNobody()
	}
	row, known := g.alike[guessOf(e)]
	if !known && g.crowded(e) {
		e.Address, e.Agent, e.RequestID = "", "", ""
		row, known = g.alike[guessOf(e)]
	}
	if known {
		g.guesses[row].Count += e.Count
		return true
	}
	if g.size() >= g.room {
		return false
	}
	g.alike[guessOf(e)] = len(g.guesses)
	g.guesses = append(g.guesses, folded{e, len(g.proven)})
	if e.nobodys() {
		g.nobodys++
	}
	return true
}

func guessOf(e Exchange) guess {
	return guess{string(e.WorkspaceID), e.KeyID, e.Action, e.Outcome, e.Address}
}

// nobodys reports whether an exchange names no key, neither one that was looked up
// nor one whose ID is genuine.
func (e Exchange) nobodys() bool { return e.WorkspaceID == "" && e.KeyID == "" }

// ofNobody keeps of an exchange what may be told when its key does not exist.
func (e Exchange) ofNobody() Exchange {
	e.KeyID, e.OwnerID, e.SecretID, e.Agent, e.RequestID, e.Detail = "", "", "", "", "", "{}"
	return e
}

func (g *group) crowded(e Exchange) bool {
	if e.nobodys() {
		return g.nobodys >= nobodysMax
	}
	return len(g.guesses)-g.nobodys >= guessesMax
}

// rows are in the order in which they were noted, the guesses at their first.
func (g *group) rows() []Exchange {
	if len(g.guesses) == 0 {
		return g.proven
	}
	rows := make([]Exchange, 0, g.size())
	from := 0
	for _, row := range g.guesses {
		rows = append(append(rows, g.proven[from:row.after]...), row.Exchange)
		from = row.after
	}
	return append(rows, g.proven[from:]...)
}

// inherit takes the guesses of a group whose proven rows go first.
func (g *group) inherit(from *group) {
	g.guesses, g.alike, g.nobodys = from.guesses, from.alike, from.nobodys
	for i := range g.guesses {
		g.guesses[i].after = 0
	}
	from.guesses = nil
}
