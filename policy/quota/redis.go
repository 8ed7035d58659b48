package quota

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// takeScript is Take by the clock of the server. KEYS are the rates, then the
// counts; ARGV is the units, whether they are forced, the number of rates, and
// three numbers of each key: interval, capacity and debt of a rate in
// microseconds; limit, floor and milliseconds to keep of a count.
//
// A rate's key holds its theoretical arrival time in microseconds and expires
// when that has come. Everything is read before anything is written, so an error
// spends nothing: not that of a key which holds something else, and not that of
// a server which is full or may not write. Nothing is written that is known
// already: a workspace at its limit costs the server reads alone.
const takeScript = `
local units, forced, rates = tonumber(ARGV[1]), ARGV[2] == '1', tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local most = 9007199254740991

local granted, known, spent, left = units, {}, {}, {}
for i, key in ipairs(KEYS) do
	local held = redis.call('GET', key)
	local n = tonumber(held or '0')
	if held and not (string.find(held, '^%d+$') and n <= most and string.format('%.0f', n) == held) then
		return redis.error_reply('ERR ' .. key .. ' holds no number of the quota')
	end
	local a, b, c = tonumber(ARGV[3 * i + 1]), tonumber(ARGV[3 * i + 2]), tonumber(ARGV[3 * i + 3])
	if i <= rates then
		known[i] = math.max(0, n - now)
		spent[i] = math.max(0, math.min(b, math.max(known[i], c)))
		left[i] = math.floor((b - spent[i]) / a)
	else
		known[i] = n
		spent[i] = math.max(n, b)
		left[i] = math.max(0, a - spent[i])
	end
	if not forced then
		granted = math.min(granted, left[i])
	end
end

local answer = {granted}
for i, key in ipairs(KEYS) do
	local a, b, c = tonumber(ARGV[3 * i + 1]), tonumber(ARGV[3 * i + 2]), tonumber(ARGV[3 * i + 3])
	if i <= rates then
		if granted > left[i] then
			spent[i] = b
		else
			spent[i] = spent[i] + granted * a
		end
		if spent[i] ~= known[i] then
			redis.call('SET', key, string.format('%.0f', now + spent[i]), 'PX', string.format('%.0f', math.ceil(spent[i] / 1000)))
		end
	else
		spent[i] = math.min(most, spent[i] + granted)
		if spent[i] ~= known[i] then
			redis.call('INCRBY', key, string.format('%.0f', spent[i] - known[i]))
			if redis.call('PTTL', key) < 0 then
				redis.call('PEXPIRE', key, ARGV[3 * i + 3])
			end
		end
	end
	answer[i + 1] = spent[i]
end
return answer
`

// Redis is the Source that replicas share. It asks once for each order, and holds
// nothing back: how long that may take, and what to do when it fails, is for the
// client's options, the context and the caller to say. A replay of what may have
// been carried out would spend twice, so the client should not retry.
type Redis struct {
	client once
	script *redis.Script
}

// NewRedis makes a Source of a Redis or a Redis Cluster.
func NewRedis(client redis.UniversalClient) *Redis {
	return &Redis{once{client}, redis.NewScript(takeScript)}
}

// Take implements Source.
func (r *Redis) Take(ctx context.Context, o Order) (Answer, error) {
	if err := o.check(); err != nil {
		return Answer{}, err
	}
	if len(o.Rates)+len(o.Counts) == 0 {
		return Answer{Granted: o.Units}, nil
	}
	reply, err := r.script.Run(ctx, r.client, redisKeys(&o), redisArgs(&o)...).Result()
	switch {
	case err != nil && spoiled(err):
		return Answer{}, fmt.Errorf("%w: %w", ErrSpoiled, err)
	case err != nil:
		return Answer{}, fmt.Errorf("take from the quota in Redis: %w", err)
	}
	return redisAnswer(&o, reply)
}

// spoiled recognises what the script says of a key that somebody else has written.
func spoiled(err error) bool {
	return strings.HasPrefix(err.Error(), "WRONGTYPE") || strings.Contains(err.Error(), "holds no number of the quota")
}

// redisKeys are an order's keys. The braces put all of a workspace on one node of
// a cluster.
func redisKeys(o *Order) []string {
	prefix := redisPrefix(o.Workspace)
	keys := make([]string, 0, len(o.Rates)+len(o.Counts))
	for i := range o.Rates {
		key := prefix + "rate"
		if subject := o.Rates[i].Subject; subject != "" {
			key += ":" + subject
		}
		keys = append(keys, key)
	}
	for i := range o.Counts {
		keys = append(keys, prefix+"count:"+o.Counts[i].Period)
	}
	return keys
}

func redisPrefix(id workspace.ID) string { return "tokenbooth:quota:{" + string(id) + "}:" }

func redisArgs(o *Order) []any {
	args := make([]any, 0, 3*(1+len(o.Rates)+len(o.Counts)))
	args = append(args, o.Units, o.Force, len(o.Rates))
	for i := range o.Rates {
		r := &o.Rates[i]
		args = append(args, micros(r.Rate.Interval), micros(r.Rate.Capacity()), micros(r.Debt))
	}
	for i := range o.Counts {
		c := &o.Counts[i]
		args = append(args, c.Limit, c.Floor, ceil(int64(c.Keep), int64(time.Millisecond)))
	}
	return args
}

// redisAnswer reads what the script returns, and takes nothing else for it.
func redisAnswer(o *Order, reply any) (Answer, error) {
	values, ok := reply.([]any)
	if !ok || len(values) != 1+len(o.Rates)+len(o.Counts) {
		return Answer{}, fmt.Errorf("quota: Redis answers %v", reply)
	}
	numbers := make([]int64, len(values))
	for i, value := range values {
		n, ok := value.(int64)
		if !ok || n < 0 {
			return Answer{}, fmt.Errorf("quota: Redis answers %v", reply)
		}
		numbers[i] = n
	}
	if numbers[0] > o.Units {
		return Answer{}, fmt.Errorf("quota: Redis grants %d units of %d", numbers[0], o.Units)
	}
	debts := make([]time.Duration, len(o.Rates))
	for i := range debts {
		if numbers[1+i] > o.Rates[i].Rate.Capacity().Microseconds() {
			return Answer{}, fmt.Errorf("quota: Redis answers %v, more than the bucket holds", reply)
		}
		debts[i] = time.Duration(numbers[1+i]) * time.Microsecond
	}
	return Answer{Granted: numbers[0], Debts: debts, Counts: numbers[1+len(debts):]}, nil
}

// once sends scripts that the client must not replay. A cluster's client replays
// what got no answer, whatever its options say; but it goes on following slots
// that have moved, for there nothing was carried out.
type once struct{ redis.UniversalClient }

// EvalSha implements redis.Scripter.
func (c once) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	return c.run(ctx, "evalsha", sha, keys, args)
}

// Eval implements redis.Scripter.
func (c once) Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	return c.run(ctx, "eval", script, keys, args)
}

func (c once) run(ctx context.Context, name, script string, keys []string, args []any) *redis.Cmd {
	words := make([]any, 0, 3+len(keys)+len(args))
	words = append(words, name, script, len(keys))
	for _, key := range keys {
		words = append(words, key)
	}
	cmd := redis.NewCmd(ctx, append(words, args...)...)
	cmd.SetFirstKeyPos(3)
	_ = c.Process(ctx, notReplayed{cmd}) // the command holds its error
	return cmd
}

// notReplayed is a command that says so.
type notReplayed struct{ *redis.Cmd }

// NoRetry implements redis.Cmder.
func (notReplayed) NoRetry() bool { return true }
