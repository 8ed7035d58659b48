// Package helm holds the tests of the chart in ./tokenbooth. They are a module of their own, so
// that the libraries of Helm and Kubernetes stay out of the service's.
package helm
