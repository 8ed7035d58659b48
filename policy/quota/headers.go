package quota

import (
	"strconv"
	"time"
)

// Policy is the value of the RateLimit-Policy field: what the limits are. It is a
// List of RFC 9651 in the form of draft-ietf-httpapi-ratelimit-headers-10:
//
//	"minute";q=600;w=60, "day";q=10000;w=86400
//
// The parameter soft says that nothing is refused. It is empty when there is no
// limit: then the field must not be sent, since an empty List is not sent.
func (d Decision) Policy() string { return d.policy }

// describe is Policy for all decisions under the terms.
func (t *terms) describe() string {
	var list []byte
	add := func(name string, quota int64, length time.Duration) {
		list = item(list, name)
		list = integer(list, ";q=", quota)
		list = integer(list, ";w=", seconds(length))
		if t.soft {
			list = append(list, ";soft"...)
		}
	}
	for i := range t.rates {
		add(t.rates[i].name, t.rates[i].quota, time.Minute)
	}
	for i := range t.counts {
		add(t.counts[i].name, t.counts[i].limit, t.counts[i].length)
	}
	return string(list)
}

// State is the value of the RateLimit field: what is left of the limits, under the
// same names as in Policy, and in how many seconds there will be more.
//
//	"minute";r=598;t=1, "day";r=9000;t=40000
//
// More than the quota is never shown, though a burst may be larger. The parameter
// degraded says that the numbers are those of one replica's share.
func (d Decision) State() string {
	var room [usualList]byte
	list := room[:0]
	for _, w := range d.windows[:d.count] {
		list = item(list, w.Name)
		list = integer(list, ";r=", min(w.Left, w.Quota))
		list = integer(list, ";t=", seconds(w.Reset))
		if d.Degraded {
			list = append(list, ";degraded"...)
		}
	}
	return string(list)
}

// usualList is how long a header is for four limits, in bytes: it is put together on
// the stack.
const usualList = 160

// item begins a member of a List. Names are ours: lower-case letters need no
// escapes.
func item(list []byte, name string) []byte {
	if len(list) > 0 {
		list = append(list, ", "...)
	}
	return append(append(append(list, '"'), name...), '"')
}

func integer(list []byte, parameter string, value int64) []byte {
	return strconv.AppendInt(append(list, parameter...), max(0, value), 10)
}

// seconds rounds up: who comes back then must not come too early.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
