package policy

import "github.com/tokenbooth/tokenbooth/keys"

// Blocks is what of the bounds refuses keys that have not ended, for ordering a list
// of them. With API keys disabled all are refused alike, and the order says nothing.
func (b *Bounds) Blocks() keys.Blocks {
	blocks := keys.Blocks{Never: b.MaxLifetime > 0 || !b.AllowNever, Anywhere: b.RequireNetworks, Idle: b.Idle}
	if b.MaxLifetime > 0 {
		blocks.Lifetime = b.MaxLifetime + slack
	}
	return blocks
}
