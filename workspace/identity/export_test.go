package identity

// WellKnown is the list of passwords that are tried first.
var WellKnown = wellKnown

// ReadStored reads a stored password, and writes it again.
func ReadStored(text string) (Hardness, string, error) {
	s, err := parsePHC(text)
	return s.Hardness, s.String(), err
}

// Occupy takes slots of p, until release is called.
func Occupy(p *Passwords, slots int) (release func()) {
	for range slots {
		p.slots <- struct{}{}
	}
	return func() {
		for range slots {
			<-p.slots
		}
	}
}

// Queue is how many may wait for slots of p.
func Queue(p *Passwords) int { return maxWaiting * cap(p.slots) }
