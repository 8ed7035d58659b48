package console

import (
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
)

// begin signs a person in, who has just proved who they are, and goes on to next.
func (r *request) begin(user workspace.UserID, by identity.Method, next string) (page, error) {
	from := r.origin()
	_, err := r.h.Sessions.Start(r.ctx, identity.Session{UserID: user, Method: by, Address: from.Address, Agent: from.Agent, CreatedAt: r.proven})
	return seeOther(r.h.next(next)), err
}
