package revocation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/tokenbooth/tokenbooth/oauth"
)

// The keys. The braces put all of them on one node of a cluster.
const (
	stateKey   = "tokenbooth:{revocation}:state"
	deniedKey  = "tokenbooth:{revocation}:denied"
	changedKey = "tokenbooth:{revocation}:changed"
	nextKey    = "tokenbooth:{revocation}:next:" // and the epoch: one that is being built
	hintTopic  = "tokenbooth:revocation"         // a channel, on which pushes tell their change number
)

// projectionKeys are the KEYS of every script.
func projectionKeys(epoch int64) []string {
	return []string{stateKey, deniedKey, changedKey, nextKey + strconv.FormatInt(epoch, 10)}
}

// prelude is what the scripts share. The state is a hash:
//
//	epoch, seq  how far the revocations are
//	count       how many members "denied" has
//	change      the newest change; its subjects are in "changed"
//	floor       "changed" has those of all changes after it
//	subjects    how many members "changed" has
//	confirmed   when a replica last found all of that to be the database's, in
//	            microseconds by the clock of Redis
//	issuer      whose they are
//
// A member of "denied" is <seq>:<hash>:<generation>:<expiry> with the sequence number
// as score, one of "changed" a subject with the number of a change as score.
const prelude = `
local state = {}
local flat = redis.call('HGETALL', KEYS[1])
for i = 1, #flat, 2 do
	state[flat[i]] = flat[i + 1]
end

local function judge()
	if not next(state) then
		return 'none'
	end
	for _, field in ipairs({'epoch', 'seq', 'count', 'change', 'floor', 'subjects', 'confirmed'}) do
		if not string.find(state[field] or '', '^%-?%d+$') then
			return 'broken'
		end
	end
	if tonumber(state.count) ~= redis.call('ZCARD', KEYS[2]) or tonumber(state.subjects) ~= redis.call('ZCARD', KEYS[3]) then
		return 'broken'
	end
	return 'whole'
end

local function info(section, field)
	return string.match(redis.call('INFO', section), '\n' .. field .. ':([^\r\n]*)') or ''
end

local function report(word)
	local role = redis.call('INFO', 'replication')
	return {
		word, state.epoch or '0', state.seq or '0', state.count or '0', state.change or '0', state.floor or '0',
		info('server', 'run_id'), string.match(role, '\nrole:(%w+)') or '', string.match(role, '\nmaster_replid:(%w+)') or '',
	}
end

local function trim(now)
	now = math.min(tonumber(now), tonumber(redis.call('TIME')[1]))
	local over = {}
	for _, member in ipairs(redis.call('ZRANGE', KEYS[2], 0, 199)) do
		if (tonumber(string.match(member, ':(%d+)$')) or now + 1) <= now then
			over[#over + 1] = member
		end
	end
	if #over > 0 then
		redis.call('ZREM', KEYS[2], unpack(over))
	end
end

local function save()
	state.count, state.subjects = tostring(redis.call('ZCARD', KEYS[2])), tostring(redis.call('ZCARD', KEYS[3]))
	for field, value in pairs(state) do
		redis.call('HSET', KEYS[1], field, value)
	end
end
`

// checkScript reports the state, and what else the watchdog looks at: the time, the
// policy and the count of evictions, whether somebody builds the epoch of KEYS[4], the
// issuer.
const checkScript = prelude + `
local answer = report(judge())
local time = redis.call('TIME')
answer[#answer + 1] = time[1] .. string.format('%06d', time[2])
answer[#answer + 1] = info('memory', 'maxmemory_policy')
answer[#answer + 1] = info('stats', 'evicted_keys')
answer[#answer + 1] = tostring(redis.call('EXISTS', KEYS[4]))
answer[#answer + 1] = state.issuer or ''
return answer
`

// pushScript adds revocations and changes. ARGV: the epoch; the entries are those
// after one sequence number up to another; the time; the subjects are those of the
// changes after one number up to another, both empty if there are none; how many
// entries, and of each the number and the member; the subjects.
//
// What may be refused for want of memory comes first, for then nothing is done.
const pushScript = prelude + `
local word = judge()
if word ~= 'whole' then
	return report(word)
end
if state.epoch ~= ARGV[1] then
	return report('other')
end
local seq, change = tonumber(state.seq), tonumber(state.change)
if seq < tonumber(ARGV[2]) then
	return report('gap')
end
local entries, moved = tonumber(ARGV[7]), false
for i = 8, 6 + 2 * entries, 2 do
	if tonumber(ARGV[i]) > seq then
		redis.call('ZADD', KEYS[2], ARGV[i], ARGV[i + 1])
	end
end
if seq < tonumber(ARGV[3]) then
	state.seq, moved = ARGV[3], true
end
if ARGV[6] ~= '' and change < tonumber(ARGV[6]) then
	for i = 8 + 2 * entries, #ARGV do
		redis.call('ZADD', KEYS[3], ARGV[6], ARGV[i])
	end
	if change < tonumber(ARGV[5]) then
		redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', '(' .. ARGV[6])
		state.floor = ARGV[5]
	end
	local excess = redis.call('ZCARD', KEYS[3]) - 10000
	if excess > 0 then
		state.floor = redis.call('ZRANGE', KEYS[3], excess - 1, excess - 1, 'WITHSCORES')[2]
		redis.call('ZREMRANGEBYRANK', KEYS[3], 0, excess - 1)
	end
	state.change, moved = ARGV[6], true
end
if moved then
	trim(ARGV[4])
	save()
	redis.pcall('PUBLISH', '` + hintTopic + `', state.change)
end
return report('whole')
`

// confirmScript notes that the state was the database's at some time. ARGV: the epoch
// and the sequence number that it has at least, that time, the time now.
const confirmScript = prelude + `
local word = judge()
if word == 'whole' and state.epoch ~= ARGV[1] then
	word = 'other'
end
if word == 'whole' and tonumber(state.seq) < tonumber(ARGV[2]) then
	word = 'gap'
end
if word == 'whole' then
	state.confirmed = ARGV[3]
	trim(ARGV[4])
	save()
end
return report(word)
`

// condemnScript deletes the state of an epoch, or one that is broken, so that nobody
// relies on it.
const condemnScript = prelude + `
if state.epoch == ARGV[1] or judge() == 'broken' then
	redis.call('DEL', KEYS[1])
	state = {}
end
return report(judge())
`

// chunkScript adds entries to those of an epoch that is being built. The first one,
// ARGV[1], leaves a mark there, without which nothing is added or built: it was lost
// on the way, or is built already. ARGV[2] is for how many milliseconds to keep it.
const chunkScript = prelude + `
if ARGV[1] == '1' then
	redis.call('DEL', KEYS[4])
	redis.call('ZADD', KEYS[4], '0', 'mark')
elseif not redis.call('ZSCORE', KEYS[4], 'mark') then
	return report('lost')
end
for i = 3, #ARGV, 2 do
	redis.call('ZADD', KEYS[4], ARGV[i], ARGV[i + 1])
end
redis.call('PEXPIRE', KEYS[4], ARGV[2])
return report('whole')
`

// buildScript makes the state from what was gathered. ARGV: epoch, sequence number,
// count, change and issuer.
const buildScript = prelude + `
if (tonumber(state.epoch) or 0) >= tonumber(ARGV[1]) then
	redis.call('UNLINK', KEYS[4])
	return report('other')
end
if not redis.call('ZSCORE', KEYS[4], 'mark') or redis.call('ZCARD', KEYS[4]) ~= tonumber(ARGV[3]) + 1 then
	redis.call('UNLINK', KEYS[4])
	return report('lost')
end
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3])
redis.call('PERSIST', KEYS[4])
redis.call('ZREM', KEYS[4], 'mark')
if ARGV[3] ~= '0' then
	redis.call('RENAME', KEYS[4], KEYS[2])
end
state = {epoch = ARGV[1], seq = ARGV[2], change = ARGV[4], floor = ARGV[4], confirmed = '0', issuer = ARGV[5]}
save()
return report('whole')
`

// vouchScript reports the state, and the subjects of the changes after ARGV[1].
const vouchScript = prelude + `
local answer = report(judge())
for _, subject in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. ARGV[1], '+inf')) do
	answer[#answer + 1] = subject
end
return answer
`

var (
	checking   = redis.NewScript(checkScript)
	pushing    = redis.NewScript(pushScript)
	confirming = redis.NewScript(confirmScript)
	condemning = redis.NewScript(condemnScript)
	gathering  = redis.NewScript(chunkScript)
	building   = redis.NewScript(buildScript)
	vouching   = redis.NewScript(vouchScript)
)

// What a script says of the state.
const (
	stateWhole  = "whole"  // as many members as it says
	stateNone   = "none"   // there is none
	stateBroken = "broken" // something is missing
	stateGap    = "gap"    // it lacks what was taken for known
	stateGone   = "lost"   // what was gathered is not there any more
)

// report is what every script answers.
type report struct {
	word string
	oauth.Position
	Count         int64
	Change, Floor int64
	runID, role   string
	replid        string
	more          []string // what the script adds
}

// reportFields is how many of the answer's elements are in every report.
const reportFields = 9

// name is of a master in the role that it has had since it became one. A failover
// back and forth loses what was written between, and changes the replication ID, not
// the ID of the process; a restart changes both.
func (r *report) name() string {
	if r.role != "master" || r.runID == "" || r.replid == "" {
		return ""
	}
	return r.runID + "/" + r.replid
}

// call runs a script. The scripts may be repeated by the client.
func (p *Projection) call(ctx context.Context, script *redis.Script, epoch int64, args ...any) (report, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	words, err := script.Run(ctx, p.o.Client, projectionKeys(epoch), args...).StringSlice()
	if err != nil {
		return report{}, err
	}
	return parseReport(words)
}

func parseReport(words []string) (r report, err error) {
	if len(words) < reportFields {
		return r, fmt.Errorf("an answer of Redis about the revocations has %d words instead of %d", len(words), reportFields)
	}
	r = report{word: words[0], runID: words[6], role: words[7], replid: words[8], more: words[reportFields:]}
	for i, number := range []*int64{&r.Epoch, &r.Sequence, &r.Count, &r.Change, &r.Floor} {
		n, err := strconv.ParseInt(words[i+1], 10, 64)
		if err != nil && r.word != stateBroken {
			return r, errors.New("the state of the revocations in Redis holds something else than numbers")
		}
		*number = n
	}
	return r, nil
}

// aclRefusals are in what Redis 7 and 6 say when a script runs a command that the user
// may not: no code of its own is for that.
var aclRefusals = []string{"ACL failure in script", "The user executing the script can't"}

// redisReason says what is wrong in words that hold no secret. Of a reply that is the code
// alone, since some repeat what was sent.
func redisReason(err error) string {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return err.Error()
	}
	code, rest, _ := strings.Cut(reply.Error(), " ")
	if code == "ERR" && slices.ContainsFunc(aclRefusals, func(text string) bool { return strings.Contains(rest, text) }) {
		return "Redis refuses: NOPERM of a command in a script: the user lacks a right that the page for operators names"
	}
	if code == "" || strings.ToUpper(code) != code {
		return "Redis refuses: an unknown reply"
	}
	return "Redis refuses: " + code
}
