// Package quota owns limits on how often something may happen.
//
// GCRA is the arithmetic: Rate, pure, shared by every limit. Limits are what an
// organization admin decides for one workspace.
//
// A Source counts exactly for all who ask it: Redis for many replicas, Memory for
// one process. The Limiter is what an exchange asks. It takes units from a source
// in small leases, remembers refusals, and when the source is away admits this
// replica's share; each of these has a bound, which is stated where it is made.
//
// Counters are how many exchanges each workspace had by day and month, written to
// SQL behind the exchanges: what is known without a source, and after one has
// forgotten.
//
// Failures bounds how often one source address, and one presented key from it, may
// fail to authenticate; it is memory of one replica, for it saves work rather than
// keeps a promise.
//
// The package does not own who may change limits, nor how many keys and service
// accounts there are: Limits only says how many there may be.
package quota
