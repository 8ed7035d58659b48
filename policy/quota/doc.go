// Package quota owns limits on how often something may happen.
//
// GCRA is the arithmetic: pure, shared by every limit. Failures bounds how often
// one source address may fail to authenticate; it is memory of one replica, for
// it saves work rather than keeps a promise.
package quota
