package manage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
)

type callerKind string

const (
	operatorCaller       callerKind = "operator"
	userCaller           callerKind = "user"
	serviceAccountCaller callerKind = "service_account"
	providerCaller       callerKind = "provider"
)

// Caller is who asks, by which credential, from where, and on which conditions.
type Caller struct {
	kind   callerKind
	id     string
	key    keys.ID      // the API key that is used; empty: none
	home   workspace.ID // of that key
	limit  *oauth.Scope // what the key's token carries; nil: all that the key holds
	origin Origin
	once   Once
	match  []string
	denial *Denial
	proven time.Time // when the person proved who they are; zero: not in person
}

// Origin is where a request comes from, for the audit log.
type Origin struct {
	Address   string
	Agent     string // User-Agent
	RequestID string
}

// agentLength is how much of a User-Agent is kept, in bytes.
const agentLength = 256

// Operator is whoever runs a command on the host with the installation's
// secrets: nothing is withheld from them. The name appears in the audit log.
func Operator(name string) Caller { return Caller{kind: operatorCaller, id: name} }

// provider is the OpenID provider that the operator has told to say who may do what:
// nothing is withheld from it, and only what the operator's mapping says is done.
func provider(issuer string) Caller { return Caller{kind: providerCaller, id: issuer} }

// User is a person who has proven who they are. What they may do is read anew in
// every transaction.
func User(id workspace.UserID) Caller { return Caller{kind: userCaller, id: string(id)} }

// Bearer is whoever speaks through an API key, or through a token of it that
// carries no more than limit (nil: the key itself). They are the key's owner,
// within the key's workspace and within what the key holds; all of it is read
// anew in every transaction.
func Bearer(key keys.Key, limit *oauth.Scope) Caller {
	c := Caller{kind: serviceAccountCaller, id: key.OwnerID(), key: key.ID, home: key.WorkspaceID, limit: limit}
	if key.UserID != "" {
		c.kind = userCaller
	}
	return c
}

// From adds where the request comes from.
func (c Caller) From(o Origin) Caller {
	o.Agent = strings.ToValidUTF8(o.Agent[:min(len(o.Agent), agentLength)], "?")
	c.origin = o
	return c
}

// Proven adds when the person who asks last proved who they are. How somebody signs
// in is changed only shortly after that: else whoever finds a browser open could make
// themselves a way in that stays.
func (c Caller) Proven(at time.Time) Caller {
	c.proven = at
	return c
}

// If makes changes conditional: what is changed has to be of one of the versions
// (Version), or else ErrChanged. No version is no condition.
func (c Caller) If(versions ...string) Caller {
	c.match = versions
	return c
}

// Home is the workspace of the key that the caller uses; empty: they use none.
func (c Caller) Home() workspace.ID { return c.home }

// String names the caller, as in created_by.
func (c Caller) String() string { return string(c.kind) + ":" + c.id }

// userID is the person who asks; empty if it is none.
func (c Caller) userID() workspace.UserID {
	if c.kind != userCaller {
		return ""
	}
	return workspace.UserID(c.id)
}

// authorise reads what the caller holds and refuses the operation if that does
// not suffice. To someone outside a workspace it does not exist.
func (u *unit) authorise(ctx context.Context, op operation) error {
	if u.by.kind == operatorCaller || u.by.kind == providerCaller {
		u.all = true
		return u.exists(ctx, op.in)
	}
	inside, installation, err := u.holds(ctx, op.in)
	if err != nil && !errors.Is(err, workspace.ErrNotFound) {
		return err
	}
	u.rights = inside
	if slices.ContainsFunc(strings.Fields(op.elsewhere), installation.Has) {
		u.rights = inside.Union(installation)
		return u.exists(ctx, op.in)
	}
	if err != nil {
		return err
	}
	if err := u.notForServiceAccounts(ctx, op); err != nil {
		return err
	}
	if op.need != "" && !u.rights.Has(op.need) {
		u.lacks = fmt.Errorf("%w: this needs %s", workspace.ErrForbidden, op.need)
		if !op.own {
			return u.lacks
		}
	}
	return nil
}

// exists refuses a workspace that does not exist; empty is the installation.
func (u *unit) exists(ctx context.Context, in workspace.ID) error {
	if in == "" {
		return nil
	}
	ws, err := workspace.Find(ctx, u.tx, string(in))
	if err == nil && ws.ID != in { // found by its slug
		err = fmt.Errorf("workspace %s: %w", in, workspace.ErrNotFound)
	}
	return err
}

// errGone refuses callers that were something once.
var errGone = fmt.Errorf("%w: the caller is not active any more", workspace.ErrForbidden)

// holds reads the caller's rights: in a workspace, which they may be told does
// not exist, and in the installation.
func (u *unit) holds(ctx context.Context, in workspace.ID) (inside, installation oauth.Scope, err error) {
	if u.by.key != "" {
		return u.keyHolds(ctx, in)
	}
	user, err := workspace.FindUser(ctx, u.tx, u.by.userID())
	if errors.Is(err, workspace.ErrNotFound) || (err == nil && !user.DisabledAt.IsZero()) {
		return nil, nil, errGone
	}
	if err != nil {
		return nil, nil, err
	}
	installation = u.Policy.Catalogue.MemberRights("", user.OrganizationAdmin)
	if in == "" {
		return installation, installation, nil
	}
	role, err := u.roleOf(ctx, in, user.ID)
	if err != nil {
		return nil, installation, err
	}
	return u.Policy.Catalogue.MemberRights(role, user.OrganizationAdmin), installation, nil
}

// roleOf reads a member's role; to anybody else the workspace does not exist.
func (u *unit) roleOf(ctx context.Context, in workspace.ID, user workspace.UserID) (workspace.Role, error) {
	if err := u.exists(ctx, in); err != nil {
		return "", err
	}
	member, err := workspace.FindMember(ctx, u.tx, in, user)
	if errors.Is(err, workspace.ErrNotFound) {
		return "", fmt.Errorf("workspace %s: %w", in, workspace.ErrNotFound)
	}
	return member.Role, err
}

// keyHolds is holds for a caller who speaks through a key: in the key's own
// workspace alone, and within what the key and its token hold.
func (u *unit) keyHolds(ctx context.Context, in workspace.ID) (inside, installation oauth.Scope, err error) {
	held, record, err := u.throughKey(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, scope := range held {
		if strings.HasPrefix(scope, "organization:") {
			installation = append(installation, scope)
		}
	}
	switch in {
	case "":
		return installation, installation, nil
	case record.WorkspaceID:
		return held, installation, nil
	}
	return nil, installation, fmt.Errorf("workspace %s: %w", in, workspace.ErrNotFound)
}

// throughKey is what the key that the caller uses holds now.
func (u *unit) throughKey(ctx context.Context) (oauth.Scope, *keys.Record, error) {
	record, err := keys.Read(ctx, u.tx, u.by.key)
	if errors.Is(err, workspace.ErrNotFound) || (err == nil && !record.Usable(u.now.Time)) {
		return nil, nil, errGone
	}
	if err != nil {
		return nil, nil, err
	}
	held := u.Policy.Holds(record)
	if u.by.limit != nil {
		held = held.Intersect(*u.by.limit)
	}
	return held, record, nil
}

// notForServiceAccounts keeps automation from making more automation: no service
// account manages service accounts or keys, unless policy says that they may.
func (u *unit) notForServiceAccounts(ctx context.Context, op operation) error {
	resource, action, _ := strings.Cut(op.need, ":")
	if u.by.kind != serviceAccountCaller || action == "read" || (resource != "service-accounts" && resource != "api-keys") {
		return nil
	}
	if b, err := u.bounds(ctx, op.in); err != nil || b.ServiceAccounts {
		return err
	}
	return fmt.Errorf("%w: service accounts do not manage service accounts or keys: use a personal key", workspace.ErrForbidden)
}

// person refuses callers who are none.
func (u *unit) person() error {
	if u.by.userID() == "" {
		return fmt.Errorf("%w: this is for people: a service account has no profile and no personal keys", workspace.ErrForbidden)
	}
	return nil
}

// mayGrant enforces that nobody grants, or is handed a secret for, what they do
// not hold themselves.
func (u *unit) mayGrant(scope oauth.Scope) error {
	if u.all {
		return nil
	}
	if missing := scope.Minus(u.rights); len(missing) > 0 {
		return fmt.Errorf("%w: you can only grant what you hold, and you do not hold %s", workspace.ErrForbidden, missing)
	}
	return nil
}
