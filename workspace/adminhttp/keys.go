package adminhttp

import (
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/admin"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func (r *request) wireKey(k keys.Listed) admin.Key {
	wire := admin.Key{
		ClientID: string(k.ID), WorkspaceID: string(k.WorkspaceID), ServiceAccountID: string(k.ServiceAccountID), UserID: string(k.UserID),
		Name: k.Name, Description: k.Description, Status: string(k.Status(r.h.Manager.Time())), Audiences: append([]string{}, k.Audiences...), AllowedCIDRs: []string{},
		TokenTTL: unless0(int64(k.TokenTTL / time.Second)), CreatedAt: k.CreatedAt.Time, CreatedBy: who(k.CreatedBy), UpdatedAt: k.UpdatedAt.Time, ExpiresAt: orNull(k.ExpiresAt),
		RevokedAt: orNull(k.RevokedAt), RevokedReason: k.RevokedReason, LastUsedAt: orNull(k.LastUsedAt), LastFailedAt: orNull(k.LastFailedAt),
		PerMinute: unless0(k.PerMinute), MaxUses: unless0(k.MaxUses), Uses: k.Uses, Blocked: append([]string{}, k.Blocked...),
		Secrets: []admin.Secret{},
	}
	if k.Scopes != nil {
		wire.Scopes = append([]string{}, *k.Scopes...)
	}
	for _, network := range k.AllowedCIDRs {
		wire.AllowedCIDRs = append(wire.AllowedCIDRs, network.String())
	}
	for _, s := range k.Secrets {
		wire.Secrets = append(wire.Secrets, admin.Secret{
			ID: s.ID, Start: keys.Start(k.ID, k.Kind(), s.Hint), CreatedAt: s.CreatedAt.Time, ExpiresAt: orNull(s.ExpiresAt),
			LastUsedAt: orNull(s.LastUsedAt), LastUsedAddress: s.LastUsedAddress, LastUsedAgent: s.LastUsedAgent,
		})
	}
	return wire
}

// orNull is an instant, or null for the zero value.
func orNull(t workspace.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t.Time
}

func (r *request) showingKey(k keys.Listed, err error) (answer, error) {
	return answer{body: r.wireKey(k), version: manage.Version(k.UpdatedAt)}, err
}

// issuing shows a key with its new secret.
func (r *request) issuing(status int, issued manage.Issued, err error) (answer, error) {
	wire := admin.IssuedKey{Key: r.wireKey(issued.Listed)}
	if text := issued.Secret.Reveal(); text != "" {
		wire.ClientSecret = &text
	}
	return answer{
		status: status, body: wire, version: manage.Version(issued.UpdatedAt),
		location: fmt.Sprintf("/workspaces/%s/keys/%s", issued.WorkspaceID, issued.ID),
	}, err
}

func (r *request) keyID() keys.ID { return keys.ID(r.Param("client_id")) }

func listKeys(r *request) (answer, error) {
	owner := r.query["user_id"]
	if named, given := r.query["service_account"]; given {
		if owner != "" {
			return answer{}, oauth.TopicParameterUnknown.Errorf("Of service_account and user_id send one.")
		}
		id, err := r.h.Manager.ResolveServiceAccount(r.ctx(), r.ws, named)
		if err != nil {
			return answer{}, err
		}
		owner = string(id)
	}
	return r.listKeys(owner)
}

func listAccountKeys(r *request) (answer, error) {
	sa, err := r.h.Manager.ServiceAccount(r.ctx(), r.by, r.ws, r.Param("sa"))
	if err != nil {
		return answer{}, err
	}
	return r.listKeys(string(sa.ID))
}

func (r *request) listKeys(owner string) (answer, error) {
	f := keys.Filter{Owner: owner, CreatedBy: createdBy(r.query["created_by"]), Text: r.query["q"]}
	status, err := r.query.word("status", string(keys.StatusActive), string(keys.StatusExpiring), string(keys.StatusExpired), string(keys.StatusRevoked))
	if err != nil {
		return answer{}, err
	}
	f.Status = keys.Status(status)
	if f.Expiring, err = r.query.days("expiring_within_days"); err != nil {
		return answer{}, err
	}
	if f.Unused, err = r.query.days("unused_for_days"); err != nil {
		return answer{}, err
	}
	page, err := r.page()
	if err != nil {
		return answer{}, err
	}
	found, err := r.h.Manager.Keys(r.ctx(), r.by, r.ws, f, page)
	return r.keyList(found, page, err)
}

// createdBy is how a creator is stored whom the wire names by ID.
func createdBy(id string) string {
	switch {
	case len(id) > 4 && id[:4] == "usr_":
		return "user:" + id
	case len(id) > 3 && id[:3] == "sa_":
		return "service_account:" + id
	}
	return id
}

func (r *request) keyList(found []keys.Listed, page workspace.Page, err error) (answer, error) {
	if err != nil {
		return answer{}, err
	}
	return listOf(r, found, page, r.wireKey, func(k keys.Listed) workspace.Position {
		return workspace.Position{At: k.CreatedAt, ID: string(k.ID)}
	})
}

func listPersonalKeys(r *request) (answer, error) {
	named, given := r.query["workspace"]
	if !given || !plain(named) {
		return answer{}, oauth.TopicParameterUnknown.Errorf("The parameter workspace is missing: personal keys are of one workspace; send its ID or slug.")
	}
	if err := r.resolve(named); err != nil {
		return answer{}, err
	}
	page, err := r.page()
	if err != nil {
		return answer{}, err
	}
	found, err := r.h.Manager.PersonalKeys(r.ctx(), r.by, r.ws, page)
	return r.keyList(found, page, err)
}

// newKey reads what a key is made of; fields that do not belong to the route have
// to be left out.
func (r *request) newKey(foreign ...string) (admin.NewKey, manage.NewKey, error) {
	var n admin.NewKey
	if err := r.decode(&n); err != nil {
		return n, manage.NewKey{}, err
	}
	var mistakes []oauth.FieldError
	for _, name := range foreign {
		if map[string]string{"workspace": n.Workspace, "service_account": n.ServiceAccount, "role": n.Role}[name] != "" {
			mistakes = append(mistakes, mistake(name, "does not belong here: leave it out"))
		}
	}
	key := manage.NewKey{Name: n.Name, Description: n.Description, Audiences: n.Audiences, DefaultExpiry: n.ExpiresAt == nil}
	if n.ExpiresAt != nil && n.ExpiresAt.Value != nil {
		key.ExpiresAt = *n.ExpiresAt.Value
	}
	if n.Scopes != nil {
		scopes, wrong := readScopes(n.Scopes)
		key.Scopes, mistakes = &scopes, append(mistakes, wrong...)
	}
	var wrong []oauth.FieldError
	key.AllowedCIDRs, wrong = readNetworks(n.AllowedCIDRs)
	mistakes = append(mistakes, wrong...)
	key.TokenTTL, wrong = readTTL(n.TokenTTL)
	mistakes = append(mistakes, wrong...)
	key.PerMinute, wrong = readLimit("exchanges_per_minute", n.PerMinute, keys.MaxPerMinute)
	mistakes = append(mistakes, wrong...)
	key.MaxUses, wrong = readLimit("max_uses", n.MaxUses, keys.MaxMaxUses)
	return n, key, invalid(append(mistakes, wrong...))
}

func readNetworks(list []string) ([]netip.Prefix, []oauth.FieldError) {
	var networks []netip.Prefix
	for i, text := range list {
		network, err := netip.ParsePrefix(text)
		if address, one := netip.ParseAddr(text); one == nil && address.Zone() == "" {
			network, err = netip.PrefixFrom(address.Unmap(), address.Unmap().BitLen()), nil
		}
		wrong := "allowed_cidrs has to be an array of networks such as 192.0.2.0/24 or 2001:db8::/32"
		if err == nil {
			network, wrong = unmapped(network)
		}
		if wrong != "" {
			return nil, []oauth.FieldError{{Pointer: fmt.Sprintf("/allowed_cidrs/%d", i), Detail: wrong}}
		}
		networks = append(networks, network.Masked())
	}
	return networks, nil
}

// unmapped is a network in the family of the addresses that come from it: an IPv4
// one that was written as IPv6 would match nothing. It says what is wrong if there
// is none.
func unmapped(network netip.Prefix) (netip.Prefix, string) {
	const mapped = 96 // bits before an IPv4 address in an IPv6 one
	switch {
	case !network.Addr().Is4In6():
		return network, ""
	case network.Bits() < mapped:
		return network, "allowed_cidrs has " + network.String() + ", which holds all IPv4 addresses and more as IPv6 writes them: send 0.0.0.0/0 for IPv4"
	}
	return netip.PrefixFrom(network.Addr().Unmap(), network.Bits()-mapped), ""
}

// readLimit reads a limit; null is none, which is 0 within.
func readLimit(name string, n *int64, most int64) (int64, []oauth.FieldError) {
	if n == nil {
		return 0, nil
	}
	if *n < 1 || *n > most {
		return 0, []oauth.FieldError{mistake(name, fmt.Sprintf("has to be 1 to %d, or null for no limit", most))}
	}
	return *n, nil
}

func readTTL(seconds *int64) (time.Duration, []oauth.FieldError) {
	if seconds == nil {
		return 0, nil
	}
	if *seconds < int64(keys.MinTokenTTL/time.Second) || *seconds > int64(keys.MaxTokenTTL/time.Second) {
		return 0, []oauth.FieldError{mistake("token_ttl_seconds", "has to be 60 to 3600")}
	}
	return time.Duration(*seconds) * time.Second, nil
}

func createKey(r *request) (answer, error) {
	n, key, err := r.newKey("workspace")
	if err != nil {
		return answer{}, err
	}
	if n.ServiceAccount == "" {
		account, err := accountFor(n, key)
		if err != nil {
			return answer{}, err
		}
		issued, err := r.h.Manager.CreateAccountWithKey(r.ctx(), r.by, r.ws, account, key)
		return r.issuing(http.StatusCreated, issued, err)
	}
	if n.Role != "" {
		return answer{}, invalid([]oauth.FieldError{mistake("role", "belongs to the service account, which exists: leave it out")})
	}
	if !plain(n.ServiceAccount) {
		return answer{}, workspace.ErrNotFound
	}
	if key.ServiceAccountID, err = r.h.Manager.ResolveServiceAccount(r.ctx(), r.ws, n.ServiceAccount); err != nil {
		return answer{}, err
	}
	issued, err := r.h.Manager.CreateKey(r.ctx(), r.by, r.ws, key)
	return r.issuing(http.StatusCreated, issued, err)
}

// accountFor is the service account that is made along with a key: of its name,
// with its scopes, or else the role viewer.
func accountFor(n admin.NewKey, key manage.NewKey) (manage.NewServiceAccount, error) {
	account := manage.NewServiceAccount{Name: n.Name, Role: n.Role}
	if (workspace.ServiceAccount{Name: n.Name}).Validate() != nil {
		if account.Name = workspace.Slug(n.Name); account.Name == "" {
			return account, invalid([]oauth.FieldError{mistake("name", "has to have a letter a-z or digit, from which the name of its service account is made; or name a service_account")})
		}
	}
	switch {
	case n.Role != "":
	case key.Scopes != nil:
		account.Scopes = *key.Scopes
	default:
		account.Role = "viewer"
	}
	return account, nil
}

func createAccountKey(r *request) (answer, error) {
	_, key, err := r.newKey("workspace", "service_account", "role")
	if err != nil {
		return answer{}, err
	}
	if key.ServiceAccountID, err = r.account(); err != nil {
		return answer{}, err
	}
	issued, err := r.h.Manager.CreateKey(r.ctx(), r.by, r.ws, key)
	return r.issuing(http.StatusCreated, issued, err)
}

func createPersonalKey(r *request) (answer, error) {
	n, key, err := r.newKey("service_account", "role")
	if err != nil {
		return answer{}, err
	}
	if n.Workspace == "" {
		return answer{}, invalid([]oauth.FieldError{mistake("workspace", "is missing: a personal key is of one workspace; give its ID or slug")})
	}
	if !plain(n.Workspace) {
		return answer{}, workspace.ErrNotFound
	}
	if err := r.resolve(n.Workspace); err != nil {
		return answer{}, err
	}
	issued, err := r.h.Manager.CreatePersonalKey(r.ctx(), r.by, r.ws, key)
	return r.issuing(http.StatusCreated, issued, err)
}

func showKey(r *request) (answer, error) {
	return r.showingKey(r.h.Manager.Key(r.ctx(), r.by, r.ws, r.keyID()))
}

func updateKey(r *request) (answer, error) {
	var c admin.KeyChange
	if err := r.decode(&c); err != nil {
		return answer{}, err
	}
	change := manage.KeyChange{Name: c.Name, Description: c.Description, Audiences: c.Audiences}
	if c.ExpiresAt != nil {
		change.ExpiresAt = new(time.Time)
		if c.ExpiresAt.Value != nil {
			change.ExpiresAt = c.ExpiresAt.Value
		}
	}
	if err := invalid(append(narrowing(c, &change), limiting(c, &change)...)); err != nil {
		return answer{}, err
	}
	return r.showingKey(r.h.Manager.UpdateKey(r.ctx(), r.by, r.ws, r.keyID(), change))
}

// narrowing reads what a change says of scopes and networks.
func narrowing(c admin.KeyChange, change *manage.KeyChange) (mistakes []oauth.FieldError) {
	if c.Scopes != nil {
		var scopes *oauth.Scope
		if c.Scopes.Value != nil {
			read, wrong := readScopes(*c.Scopes.Value)
			scopes, mistakes = &read, wrong
		}
		change.Scopes = &scopes
	}
	if c.AllowedCIDRs != nil {
		networks, wrong := readNetworks(*c.AllowedCIDRs)
		change.AllowedCIDRs, mistakes = &networks, append(mistakes, wrong...)
	}
	return mistakes
}

// limiting reads what a change says of the key's limits.
func limiting(c admin.KeyChange, change *manage.KeyChange) (mistakes []oauth.FieldError) {
	if c.TokenTTL != nil {
		ttl, wrong := readTTL(c.TokenTTL.Value)
		change.TokenTTL, mistakes = &ttl, wrong
	}
	for _, limit := range []struct {
		name string
		to   *admin.Nullable[int64]
		most int64
		set  **int64
	}{
		{"exchanges_per_minute", c.PerMinute, keys.MaxPerMinute, &change.PerMinute},
		{"max_uses", c.MaxUses, keys.MaxMaxUses, &change.MaxUses},
	} {
		if limit.to != nil {
			n, wrong := readLimit(limit.name, limit.to.Value, limit.most)
			*limit.set, mistakes = &n, append(mistakes, wrong...)
		}
	}
	return mistakes
}

func deleteKey(r *request) (answer, error) {
	return answer{}, r.h.Manager.DeleteKey(r.ctx(), r.by, r.ws, r.keyID())
}

func rotateKey(r *request) (answer, error) {
	var n admin.Rotation
	if err := r.decode(&n); err != nil {
		return answer{}, err
	}
	if most := int64(manage.MaxGrace / time.Second); n.GracePeriod < 0 || n.GracePeriod > most {
		return answer{}, invalid([]oauth.FieldError{mistake("grace_period_seconds", fmt.Sprintf("has to be 0 to %d", most))})
	}
	issued, err := r.h.Manager.RotateKey(r.ctx(), r.by, r.ws, r.keyID(), manage.Rotation{
		Grace: time.Duration(n.GracePeriod) * time.Second, RevokeTokens: n.RevokeTokens,
	})
	a, err := r.issuing(http.StatusOK, issued, err)
	a.location = ""
	return a, err
}

func revokeKey(r *request) (answer, error) {
	var n admin.Revocation
	if err := r.decode(&n); err != nil {
		return answer{}, err
	}
	k, err := r.h.Manager.EndKey(r.ctx(), r.by, r.ws, r.keyID(), n.Reason)
	wire := admin.RevokedKey{Key: r.wireKey(k), EffectiveBy: effectiveBy(err)}
	if r.denial.Sequence > 0 {
		wire.Sequence, wire.DeadBy = &r.denial.Sequence, &r.denial.DeadBy
	}
	return answer{body: wire, version: manage.Version(k.UpdatedAt)}, err
}

func endSecret(r *request) (answer, error) {
	return answer{}, r.h.Manager.EndSecret(r.ctx(), r.by, r.ws, r.keyID(), r.Param("secret"))
}
