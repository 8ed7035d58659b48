// Package change owns the order of changes and who has seen them: the change
// sequence, the log of what each change touched, and the leases under which
// replicas serve from their caches.
//
// Every management transaction takes the next number of one locked counter row,
// so numbers are gapless and in commit order, and transactions that change
// anything run one after the other on PostgreSQL as they do on SQLite.
//
// Each replica runs a Follower. It reads what changed, lets the caches forget
// it, and only then acknowledges by renewing its lease. A cache may answer only
// while the lease is held. Await returns when every replica has either
// acknowledged a change or lost its lease: from then on no replica acts on what
// was true before. No clock is compared with another machine's: a lease-holder
// counts from before it sent a renewal, and an observer waits until it has seen
// no renewal for as long as a lease lasts.
//
// What the changes mean is the caches' business (keys.Directory, signing.Ring).
package change
