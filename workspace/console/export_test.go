package console

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
