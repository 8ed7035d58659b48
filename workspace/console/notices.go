package console

// notices are what a page says once after something was done, by the name that its
// address carries. The text is never taken from an address.
var notices = map[string]string{
	"signed-out": "You are signed out.",
}
