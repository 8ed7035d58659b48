package manage

import (
	"context"
	"errors"
	"fmt"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
)

type callerKind string

const (
	operatorCaller callerKind = "operator"
	userCaller     callerKind = "user"
)

// Caller is who asks for a change.
type Caller struct {
	kind callerKind
	id   string
}

// Operator is whoever runs a command on the host with the installation's
// secrets: nothing is withheld from them. The name appears in the audit log.
func Operator(name string) Caller { return Caller{kind: operatorCaller, id: name} }

// User is a person; what they may do is read anew in every transaction.
func User(id workspace.UserID) Caller { return Caller{kind: userCaller, id: string(id)} }

func (c Caller) String() string { return string(c.kind) + ":" + c.id }

// authorise reads what the caller holds and refuses the operation if that does
// not suffice. To someone outside a workspace it does not exist.
func (u *unit) authorise(ctx context.Context, op operation) error {
	if u.by.kind == operatorCaller {
		u.all = true
		return u.exists(ctx, op.in)
	}
	var err error
	if u.rights, err = u.userRights(ctx, op.in); err != nil {
		return err
	}
	if !u.rights.Has(op.need) {
		return fmt.Errorf("%w: this needs %s", workspace.ErrForbidden, op.need)
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

func (u *unit) userRights(ctx context.Context, in workspace.ID) (oauth.Scope, error) {
	user, err := workspace.FindUser(ctx, u.tx, workspace.UserID(u.by.id))
	if errors.Is(err, workspace.ErrNotFound) || (err == nil && !user.DisabledAt.IsZero()) {
		return nil, fmt.Errorf("%w: the caller is not an active user", workspace.ErrForbidden)
	}
	if err != nil {
		return nil, err
	}
	if in == "" {
		return u.Policy.Catalogue.MemberRights("", user.OrganizationAdmin), nil
	}
	member, err := workspace.FindMember(ctx, u.tx, in, user.ID)
	if errors.Is(err, workspace.ErrNotFound) {
		return nil, fmt.Errorf("workspace %s: %w", in, workspace.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return u.Policy.Catalogue.MemberRights(member.Role, user.OrganizationAdmin), nil
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
