package endpoint_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth/endpoint"
)

// serve answers a form from an address and checks nothing, for volume.
func (b *booth) serve(body, address string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, endpoint.LoginPath, strings.NewReader(body))
	r.Header.Set("Content-Type", formType)
	r.RemoteAddr = address
	recorder := httptest.NewRecorder()
	b.ServeHTTP(recorder, r)
	return recorder
}

// A hundred thousand invented key IDs, each from an address of its own, cost no
// statement and no memory that stays.
func TestInventedKeysCostNoSQL(t *testing.T) {
	b := newBooth(t, options{idle: true})
	var bodies []string
	for range 100 {
		id, secret := invented()
		bodies = append(bodies, form(id, secret).Encode())
	}
	inUse := func() uint64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	statements, memory := b.db.Queries(), inUse()
	for i := range 100_000 {
		address := fmt.Sprintf("10.%d.%d.%d:99", i>>16, i>>8&255, i&255)
		if a := b.serve(bodies[i%len(bodies)], address); a.Code != http.StatusUnauthorized {
			t.Fatalf("login %d: %d %s", i, a.Code, a.Body)
		}
	}
	if sent := b.db.Queries() - statements; sent != 0 {
		t.Errorf("%d statements were sent", sent)
	}
	if b.directory.Len() != 0 {
		t.Errorf("the directory holds %d keys", b.directory.Len())
	}
	b.checkLog() // which a server writes out: it is not the service's memory
	if now := inUse(); now > memory+32<<20 {
		t.Errorf("memory in use grew from %d to %d bytes", memory, now)
	}
}

// A known key costs no statement either.
func TestKnownKeyCostsNoSQL(t *testing.T) {
	b := newBooth(t, options{idle: true})
	b.token(b.active)
	statements := b.db.Queries()
	for range 200 {
		b.token(b.active)
		b.login(form(string(b.active.ID), b.wrong(b.active.ID))).want(b, http.StatusUnauthorized, "invalid_client")
	}
	if sent := b.db.Queries() - statements; sent != 0 {
		t.Errorf("%d statements were sent", sent)
	}
}

// TestTimingStatistic prints how long refusals take: medians and Welch's t
// between the classes. Look at it with -v on a quiet machine; a |t| below about
// 4.5 is noise. What is asserted does not depend on the machine: the first two
// classes get the same answer to the byte.
func TestTimingStatistic(t *testing.T) {
	const rounds = 2000
	b := newBooth(t, options{idle: true})
	b.token(b.active)
	inventedID, inventedSecret := invented()
	right := b.active.Secret.Reveal()
	damaged := right[:len(right)-1] + map[bool]string{true: "1", false: "0"}[right[len(right)-1] == '0']
	names := []string{"invented ID", "wrong secret", "bad checksum"}
	bodies := []string{
		form(inventedID, inventedSecret).Encode(),
		form(string(b.active.ID), b.wrong(b.active.ID)).Encode(),
		form(string(b.active.ID), damaged).Encode(),
	}
	took := make([][]float64, len(bodies))
	answers := make([]map[string]int, len(bodies))
	for i := range answers {
		answers[i] = map[string]int{}
	}
	for range rounds {
		for _, i := range rand.Perm(len(bodies)) { // what comes before must not favour a class
			began := time.Now()
			a := b.serve(bodies[i], "192.0.2.1:99")
			took[i] = append(took[i], float64(time.Since(began).Nanoseconds()))
			answers[i][dump(answer{a.Code, a.Header(), a.Body.String()})]++
		}
	}
	for i, name := range names {
		t.Logf("%-12s median %6.0f ns", name, median(took[i]))
		if len(answers[i]) != 1 {
			t.Errorf("%s: %d different answers", name, len(answers[i]))
		}
	}
	t.Logf("Welch's t: %s against %s %.2f, against %s %.2f", names[0], names[1], welch(took[0], took[1]), names[2], welch(took[0], took[2]))
	for text, n := range answers[0] {
		if n != rounds || answers[1][text] != rounds {
			t.Errorf("%d and %d answers of %d are the same", n, answers[1][text], rounds)
		}
	}
}

func median(x []float64) float64 {
	return slices.Sorted(slices.Values(x))[len(x)/2]
}

// welch is the t statistic of two samples, each without its slowest twentieth,
// which is the scheduler and the collector rather than the code.
func welch(x, y []float64) float64 {
	meanX, errX := trimmed(x)
	meanY, errY := trimmed(y)
	return (meanX - meanY) / math.Sqrt(errX+errY)
}

func trimmed(x []float64) (mean, squaredError float64) {
	x = slices.Sorted(slices.Values(x))[:len(x)*19/20]
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		squaredError += (v - mean) * (v - mean) / float64(len(x)-1)
	}
	return mean, squaredError / float64(len(x))
}
