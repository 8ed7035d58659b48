package adminhttp

import (
	"net/http"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/admin"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// Members.

func wireMember(m workspace.Membership) admin.Member {
	return admin.Member{
		UserID: string(m.UserID), Email: m.Email, Name: m.Name, Role: string(m.Role), Enabled: m.DisabledAt.IsZero(),
		CreatedAt: m.CreatedAt.Time, UpdatedAt: m.UpdatedAt.Time,
	}
}

func showingMember(m workspace.Membership, err error) (answer, error) {
	return answer{body: wireMember(m), version: manage.Version(m.UpdatedAt)}, err
}

func listMembers(r *request) (answer, error) {
	role, err := r.query.word("role", string(workspace.Owner), string(workspace.Manager), string(workspace.Viewer))
	if err != nil {
		return answer{}, err
	}
	page, err := r.page()
	if err != nil {
		return answer{}, err
	}
	found, err := r.h.Manager.Members(r.ctx(), r.by, r.ws, workspace.MemberFilter{Text: r.query["q"], Role: workspace.Role(role)}, page)
	if err != nil {
		return answer{}, err
	}
	return listOf(r, found, page, wireMember, func(m workspace.Membership) workspace.Position {
		return workspace.Position{At: m.CreatedAt, ID: string(m.UserID)}
	})
}

func addMember(r *request) (answer, error) {
	var n admin.NewMember
	if err := r.decode(&n); err != nil {
		return answer{}, err
	}
	if (n.UserID == "") == (n.Email == "") {
		return answer{}, invalid([]oauth.FieldError{mistake("email", "or user_id is needed, one of them")})
	}
	var member workspace.Membership
	var err error
	if n.UserID != "" {
		if !plain(n.UserID) {
			return answer{}, workspace.ErrNotFound
		}
		member, err = r.h.Manager.Join(r.ctx(), r.by, r.ws, workspace.UserID(n.UserID), workspace.Role(n.Role))
	} else {
		member, err = r.h.Manager.Invite(r.ctx(), r.by, r.ws, n.Email, workspace.Role(n.Role))
	}
	a, err := showingMember(member, err)
	a.status, a.location = http.StatusCreated, "/workspaces/"+string(r.ws)+"/members/"+string(member.UserID)
	return a, err
}

func (r *request) user() workspace.UserID { return workspace.UserID(r.Param("user")) }

func showMember(r *request) (answer, error) {
	return showingMember(r.h.Manager.Member(r.ctx(), r.by, r.ws, r.user()))
}

func updateMember(r *request) (answer, error) {
	var c admin.MemberChange
	if err := r.decode(&c); err != nil {
		return answer{}, err
	}
	return showingMember(r.h.Manager.SetMemberRole(r.ctx(), r.by, r.ws, r.user(), workspace.Role(c.Role)))
}

func removeMember(r *request) (answer, error) {
	return answer{}, r.h.Manager.RemoveMember(r.ctx(), r.by, r.ws, r.user())
}

// Users.

func wireUser(u workspace.User) admin.User {
	return admin.User{
		ID: string(u.ID), Email: u.Email, Name: u.Name, OrganizationAdmin: u.OrganizationAdmin, Enabled: u.DisabledAt.IsZero(),
		CreatedAt: u.CreatedAt.Time, UpdatedAt: u.UpdatedAt.Time,
	}
}

func showingUser(u workspace.User, err error) (answer, error) {
	return answer{body: wireUser(u), version: manage.Version(u.UpdatedAt)}, err
}

func listUsers(r *request) (answer, error) {
	f := workspace.UserFilter{Text: r.query["q"]}
	var err error
	if f.Disabled, err = not(r.query.flag("enabled")); err != nil {
		return answer{}, err
	}
	if f.OrganizationAdmin, err = r.query.flag("organization_admin"); err != nil {
		return answer{}, err
	}
	page, err := r.page()
	if err != nil {
		return answer{}, err
	}
	found, err := r.h.Manager.Users(r.ctx(), r.by, f, page)
	if err != nil {
		return answer{}, err
	}
	return listOf(r, found, page, wireUser, func(u workspace.User) workspace.Position {
		return workspace.Position{At: u.CreatedAt, ID: string(u.ID)}
	})
}

func createUser(r *request) (answer, error) {
	var n admin.NewUser
	if err := r.decode(&n); err != nil {
		return answer{}, err
	}
	user, err := r.h.Manager.CreateNamedUser(r.ctx(), r.by, n.Email, n.Name, n.OrganizationAdmin)
	a, err := showingUser(user, err)
	a.status, a.location = http.StatusCreated, "/users/"+string(user.ID)
	return a, err
}

func showUser(r *request) (answer, error) {
	return showingUser(r.h.Manager.User(r.ctx(), r.by, r.user()))
}

func updateUser(r *request) (answer, error) {
	var c admin.UserChange
	if err := r.decode(&c); err != nil {
		return answer{}, err
	}
	return showingUser(r.h.Manager.UpdateUser(r.ctx(), r.by, r.user(), manage.UserChange(c)))
}

func deleteUser(r *request) (answer, error) {
	return answer{}, r.h.Manager.DeleteUser(r.ctx(), r.by, r.user())
}

func showMe(r *request) (answer, error) {
	p, err := r.h.Manager.Me(r.ctx(), r.by)
	profile := admin.Profile{User: wireUser(p.User), Memberships: []admin.Membership{}}
	for _, m := range p.Memberships {
		profile.Memberships = append(profile.Memberships, admin.Membership{
			WorkspaceID: string(m.ID), Workspace: m.Slug, Name: m.Name, Role: string(m.Role),
		})
	}
	return answer{body: profile, version: manage.Version(p.UpdatedAt)}, err
}
