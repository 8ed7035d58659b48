package console

import "fmt"

// HoldExports takes every place for an export, until release is called.
func (h *Handler) HoldExports() (release func()) {
	for range maxExports {
		h.exports <- struct{}{}
	}
	return func() {
		for range maxExports {
			<-h.exports
		}
	}
}

// ParsePages parses every page, and returns how many there are.
func (h *Handler) ParsePages() (int, error) {
	for name, load := range h.pages {
		if _, err := load(); err != nil {
			return 0, fmt.Errorf("page %q: %w", name, err)
		}
	}
	return len(h.pages), nil
}
