package keys

// What the tests compare with the standard library.
var (
	Crockford = crockford
	DecodeID  = decodeID
)

// Code makes a code under a key.
func Code(key []byte, parts ...string) [32]byte { return newMACKey(key).code(parts...) }

// Leftovers is what a mac holds in the open after it was used.
func Leftovers(parts ...string) []byte {
	m := &mac{h: macs.New().(*mac).h}
	m.resume(newMACKey([]byte("a key")).inner)
	for _, part := range parts {
		m.write(part)
	}
	m.forget()
	return append(stateOf(m.h)[len("sha\x03")+32:], m.room[:]...)
}
