package console

// start sends a person to their workspace, or shows the workspaces to choose from.
func start(r *request) (page, error) {
	if m := r.me.Memberships; len(m) == 1 && !r.me.OrganizationAdmin {
		return seeOther(r.h.path("w", m[0].Slug)), nil
	}
	return page{template: "start", title: "Workspaces", section: "start", data: r.me.Memberships}, nil
}
