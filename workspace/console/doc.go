// Package console is the web view for people: managers issue and end keys in it,
// organization admins set policy.
//
// It renders what package manage answers and turns forms into its use cases; who
// may do what is decided there and nowhere here. Each page is one file of handlers
// with the templates of the same name. Pages are plain HTML: every flow works
// without script, and the one script only makes them more pleasant.
package console
