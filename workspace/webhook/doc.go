// Package webhook owns the announcement of what happens to keys: an outbox of
// events, and their delivery to the one URL of the operator's configuration.
//
// An event is put into the outbox in the transaction of the change that it tells
// of, so that neither exists without the other. A Sender delivers it at least
// once, signed as Standard Webhooks (standardwebhooks.com) has it, and announces
// by itself which keys are about to expire. An event never holds a secret or a
// part of one.
//
// Whether there is a webhook at all, and which change is an event, is decided in
// workspace/manage.
package webhook
