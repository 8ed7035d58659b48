package adminhttp

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/admin"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// Whatever denies tokens says in the header of its answer where to follow that.
const (
	sequenceHeader    = "Revocation-Sequence"
	deadByHeader      = "Revocation-Dead-By"
	effectiveByHeader = "Revocation-Effective-By"
)

// tellDenial sets those headers, if the request denied anything or is not in force
// everywhere yet.
func tellDenial(header http.Header, d manage.Denial, err error) {
	if d.Sequence > 0 {
		header.Set(sequenceHeader, strconv.FormatInt(d.Sequence, 10))
		header.Set(deadByHeader, d.DeadBy.UTC().Format(time.RFC3339Nano))
	}
	if until := effectiveBy(err); until != nil {
		header.Set(effectiveByHeader, until.Format(time.RFC3339))
	}
}

// effectiveBy is when a change that is pending is in force at the latest, rounded up
// to a whole second; nil if it is in force.
func effectiveBy(err error) *time.Time {
	var pending *manage.PendingError
	if !errors.As(err, &pending) {
		return nil
	}
	until := pending.Until.UTC().Add(time.Second - time.Nanosecond).Truncate(time.Second)
	return &until
}

func reportVerifier(r *request) (answer, error) {
	var at admin.Position
	given := []string{"epoch", "sequence"}
	if err := r.decodeWhole(&at, given...); err != nil {
		return answer{}, err
	}
	reported, err := r.h.Manager.ReportVerifier(r.ctx(), r.by, r.Param("name"), oauth.Position{Epoch: at.Epoch, Sequence: at.Sequence})
	if err != nil {
		return answer{}, blame(err, &at)
	}
	now := r.h.Manager.Time()
	return answer{body: admin.ReportedVerifier{Verifier: wireVerifier(reported.Verifier, reported.Newest, now), WentBack: reported.WentBack}}, nil
}

func removeVerifier(r *request) (answer, error) {
	return answer{}, r.h.Manager.RemoveVerifier(r.ctx(), r.by, r.Param("name"))
}

// decodeWhole is decode for a body of which no member may be left out.
func (r *request) decodeWhole(into any, names ...string) error {
	if err := r.decode(into); err != nil {
		return err
	}
	members, err := oauth.ParseObject(r.raw)
	if err != nil {
		return err
	}
	var mistakes []oauth.FieldError
	for _, name := range names {
		if value, there := members[name]; !there || string(value) == "null" {
			mistakes = append(mistakes, mistake(name, "is missing"))
		}
	}
	return invalid(mistakes)
}

func wireVerifier(v revocation.Verifier, newest oauth.Position, now time.Time) admin.Verifier {
	wire := admin.Verifier{
		WorkspaceID: string(v.WorkspaceID), Name: v.Name, ClientID: string(v.KeyID), Epoch: v.Epoch, Sequence: v.Seq,
		ReportedAt: v.ReportedAt.Time, Silent: v.Silent(now),
	}
	if v.Epoch == newest.Epoch {
		behind := max(0, newest.Sequence-v.Seq)
		wire.Behind = &behind
	}
	return wire
}

// everywhere is what the parameter workspace is for all of them. It is no name.
const everywhere = "*"

func listVerifiers(r *request) (answer, error) {
	in := r.by.Home()
	if named, given := r.query["workspace"]; given {
		if named == "" || !plain(named) {
			return answer{}, workspace.ErrNotFound
		}
		if err := r.resolve(named); err != nil {
			return answer{}, err
		}
		if in = r.ws; named == everywhere {
			in = ""
		}
	}
	page, err := r.page()
	if err != nil {
		return answer{}, err
	}
	ws, name, _ := strings.Cut(page.After.ID, "/")
	found, newest, err := r.h.Manager.Verifiers(r.ctx(), r.by, in, revocation.Verifier{WorkspaceID: workspace.ID(ws), Name: name}, page.Limit)
	if err != nil {
		return answer{}, err
	}
	now := r.h.Manager.Time()
	return listOf(r, found, page, func(v revocation.Verifier) admin.Verifier { return wireVerifier(v, newest, now) }, func(v revocation.Verifier) workspace.Position {
		return workspace.Position{At: v.ReportedAt, ID: string(v.WorkspaceID) + "/" + v.Name}
	})
}

// How a request waits for verifiers.
const (
	waitInterval = 500 * time.Millisecond // it looks so often
	maxWaiting   = 50                     // so many wait at once; others are answered as if they did not
)

func showRevocation(r *request) (answer, error) {
	seq, err := strconv.ParseInt(r.Param("sequence"), 10, 64)
	if err != nil || seq < 1 || strconv.FormatInt(seq, 10) != r.Param("sequence") {
		return answer{}, workspace.ErrNotFound
	}
	wait, err := r.query.seconds("wait", admin.MaxWait)
	if err != nil {
		return answer{}, err
	}
	receipt, err := r.receipt(seq, wait)
	if err != nil {
		return answer{}, err
	}
	return answer{body: wireReceipt(receipt)}, nil
}

// receipt reads who has caught up: at once, or when those who report have, the time
// is over, or this replica shuts down.
func (r *request) receipt(seq int64, wait time.Duration) (revocation.Receipt, error) {
	receipt, err := r.h.Manager.Receipt(r.ctx(), r.by, seq)
	if err != nil || wait == 0 || receipt.Settled() {
		return receipt, err
	}
	defer r.h.waiting.Add(-1)
	if r.h.waiting.Add(1) > maxWaiting {
		return receipt, nil
	}
	end, tick := time.NewTimer(wait), time.NewTicker(waitInterval)
	defer end.Stop()
	defer tick.Stop()
	for over := false; !over && err == nil && !receipt.Settled() && !r.h.draining(); {
		select {
		case <-r.ctx().Done():
			return receipt, r.ctx().Err()
		case <-end.C:
			over = true
		case <-tick.C:
		}
		receipt, err = r.h.Manager.Receipt(r.ctx(), r.by, seq)
	}
	return receipt, err
}

func (h *Handler) draining() bool { return h.Draining != nil && h.Draining() }

// seconds reads a number of whole seconds; 0 when it is not there.
func (q query) seconds(name string, most time.Duration) (time.Duration, error) {
	text, given := q[name]
	if !given {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > int(most/time.Second) {
		return 0, oauth.TopicParameterUnknown.Errorf("The parameter %s has to be a whole number of seconds from 0 to %d.", name, int(most/time.Second))
	}
	return time.Duration(n) * time.Second, nil
}

func wireReceipt(r revocation.Receipt) admin.Receipt {
	wire := admin.Receipt{
		Sequence: r.Seq, Epoch: r.Newest.Epoch, Kind: string(r.Kind), Subject: r.SubjectID, WorkspaceID: string(r.WorkspaceID),
		Cause: string(r.Cause), At: r.At.Time, DeadBy: r.ExpiresAt.Time, Verifiers: []admin.VerifierReceipt{}, AcceptsUntil: orNull(r.AcceptsUntil()),
		ReceiptTally: wireTally(r.Own), Others: wireTally(r.Others), Newest: admin.Position{Epoch: r.Newest.Epoch, Sequence: r.Newest.Sequence},
	}
	for _, v := range r.Verifiers {
		wire.Verifiers = append(wire.Verifiers, admin.VerifierReceipt{
			WorkspaceID: string(v.WorkspaceID), Name: v.Name, Epoch: v.Epoch, Sequence: v.Seq, ReportedAt: v.ReportedAt.Time,
			CaughtUp: r.CaughtUp(v), Silent: v.Silent(r.Now), AcceptsUntil: orNull(r.VerifierAcceptsUntil(v)),
		})
	}
	return wire
}

func wireTally(t revocation.Tally) admin.ReceiptTally {
	return admin.ReceiptTally{CaughtUp: t.CaughtUp, Behind: t.Behind, Silent: t.Silent}
}
