package console

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// expiryKeep leaves the end of a key as it is.
const expiryKeep = "keep"

// editing is the form in which a key is changed.
type editing struct {
	Key          keys.Listed
	Form         url.Values
	Version      string
	Picker       picker
	Expiry       expiry
	Restrictions restrictions
	Differs      []keyDifference // from what somebody else has made of the key meanwhile
}

// keyDifference is a part of a key that the form would change, and what it is now.
type keyDifference struct{ Label, Now string }

func editKey(r *request) (page, error) {
	s, err := r.h.Manager.KeyStanding(r.ctx, r.by, r.ws.ID, r.keyID())
	if err != nil {
		return page{}, err
	}
	if r.showKey(s.Listed).Ended {
		return seeOther(r.keyURL(s.ID)), nil // where a copy of it is offered
	}
	return r.editPage(s, r.formOf(s.Listed), nil, nil), asked(r.offers(s.Listed, false).Edit, "api-keys:update")
}

// formOf is a key as the form has it.
func (r *request) formOf(k keys.Listed) url.Values {
	form := url.Values{fieldName: {k.Name}, fieldDescription: {k.Description}, fieldAudience: k.Audiences, fieldExpiresIn: {expiryKeep}}
	for _, network := range k.AllowedCIDRs {
		form.Add(fieldNetworksOf, network.String())
	}
	for field, n := range map[string]int64{fieldTokenTTL: int64(k.TokenTTL / time.Second), fieldPerMinute: k.PerMinute, fieldMaxUses: k.MaxUses} {
		if n > 0 {
			form.Set(field, strconv.FormatInt(n, 10))
		}
	}
	known := r.h.Manager.Policy.Catalogue.Known()
	if k.Scopes == nil {
		form.Set(fieldPermissions, permissionsHeld)
		setScopes(form, nil, known)
		return form
	}
	setScopes(form, *k.Scopes, known)
	return form
}

func (r *request) editPage(s manage.KeyStanding, form url.Values, wrong *problem, differs []keyDifference) page {
	o := pickerOptions{Owner: "its service account", Bounds: s.Bounds, Personal: s.UserID != "", Has: s.Holds}
	switch {
	case s.UserID == r.me.ID:
		o.Owner = "you"
	case s.UserID != "":
		o.Owner = "its user"
	}
	if s.Scopes != nil {
		o.Has = o.Has.Union(*s.Scopes)
	}
	data := editing{
		Key: s.Listed, Form: form, Version: manage.Version(s.UpdatedAt), Differs: differs, Picker: r.newPicker(form, wrong, o),
		Expiry: r.editExpiry(s, form, wrong), Restrictions: r.newRestrictions(form, wrong, s.Bounds),
	}
	p := page{template: "key_edit", title: "Edit " + s.Name, section: r.keySection(s.Listed), data: data, problem: wrong}
	if wrong != nil {
		p.status = wrong.status
	}
	return p
}

// editExpiry is the part in which the end of a key is changed. Days count from now;
// what policy allows counts from the newest secret.
func (r *request) editExpiry(s manage.KeyStanding, form url.Values, wrong *problem) expiry {
	now, made := r.h.Manager.Time(), s.Standing().MadeAt
	chosen := form.Get(fieldExpiresIn)
	e := newExpiry(url.Values{fieldExpiresOn: form[fieldExpiresOn]}, wrong, s.Bounds, made)
	e.Choices, e.Min = nil, now.UTC().Format(time.DateOnly)
	keep := "As it is: never"
	if !s.ExpiresAt.IsZero() {
		keep = "As it is: " + instant(s.ExpiresAt.Time)
	}
	e.add(expiryKeep, keep, chosen, false)
	for _, days := range usualDays {
		end := now.Add(time.Duration(days) * day)
		e.add(strconv.FormatInt(days, 10), count(days, "day")+" from now – "+instant(end), chosen, !allows(s.Bounds, end, made))
	}
	e.add(expiryCustom, "Until a date of your choice", chosen, false)
	e.add(expiryNever, "No expiration", chosen, !s.Bounds.AllowNever)
	return e
}

// saveKey changes what the form says otherwise than the key.
func saveKey(r *request) (page, error) {
	s, err := r.h.Manager.KeyStanding(r.ctx, r.by, r.ws.ID, r.keyID())
	if err != nil {
		return page{}, err
	}
	change, differs, err := r.keyChange(s)
	if err != nil {
		return r.editPage(s, r.form, problemOf(err), nil), nil
	}
	if r.form.Get(fieldVersion) != manage.Version(s.UpdatedAt) {
		return r.editPage(s, r.form, overtaken(differs), differs), nil
	}
	after, err := r.h.Manager.UpdateKey(r.ctx, r.by.If(r.form.Get(fieldVersion)), r.ws.ID, s.ID, change)
	switch {
	case pending(err):
		return done(err, r.keyURL(s.ID), ""), nil
	case err != nil:
		wrong := problemOf(err)
		if wrong == nil {
			return page{}, err
		}
		return r.editPage(s, r.form, wrong, nil), nil
	case r.denial.Sequence > 0:
		return seeOther(r.keyURL(s.ID) + "?notice=key-narrowed"), nil
	case after.UpdatedAt == s.UpdatedAt:
		return seeOther(r.keyURL(s.ID) + "?notice=key-unchanged"), nil
	}
	return seeOther(r.keyURL(s.ID) + "?notice=key-saved"), nil
}

// overtaken tells that somebody else was faster.
func overtaken(differs []keyDifference) *problem {
	p := &problem{status: 409, Title: "Somebody else changed it meanwhile", Items: []mistake{{
		Text: "Nothing was saved yet, and what you typed is still here. Look at what differs from the key as it is now; Save changes puts yours in its place.",
	}}}
	if len(differs) == 0 {
		p.Items[0].Text = "It is now as you wanted it: there is nothing left to save."
	}
	return p
}

// keyChange reads the form: what it says otherwise than the key is, and in words. The
// error is mistakes.
func (r *request) keyChange(s manage.KeyStanding) (c manage.KeyChange, differs []keyDifference, err error) {
	var m mistakes
	differ := func(label, now string) { differs = append(differs, keyDifference{label, now}) }
	if name := r.text(fieldName); name != s.Name {
		m.of(fieldName, workspace.ValidName("name", name))
		c.Name = &name
		differ("Name", s.Name)
	}
	if text := strings.ReplaceAll(r.text(fieldDescription), "\r\n", "\n"); text != s.Description {
		m.of(fieldDescription, workspace.ValidDescription(text))
		c.Description = &text
		differ("Description", orNothing(s.Description))
	}
	known := r.h.Manager.Policy.Catalogue.Known()
	scopes, wrong := scopesFrom(r.form, known)
	m.take(wrong)
	if scopes != nil && len(*scopes) == 0 && wrong == nil && len(known) > 0 {
		m.add(fieldPermissions, "Choose at least one permission. To stop the key, revoke it.")
	}
	if before, _ := scopesFrom(r.formOf(s.Listed), known); !sameScopes(before, scopes) {
		c.Scopes = &scopes
		differ("Permissions", permissionWords(s.Scopes))
	}
	if end, changed := r.editedEnd(s, &m); changed {
		c.ExpiresAt = &end
		differ("Expiration", orNever(s.ExpiresAt))
	}
	r.restrict(s, &c, &m, differ)
	return c, differs, m.err()
}

// restrict reads the part of the form that restricts the key.
func (r *request) restrict(s manage.KeyStanding, c *manage.KeyChange, m *mistakes, differ func(label, now string)) {
	n, wrong := r.restrictionFrom(r.form)
	m.take(wrong)
	if !slices.Equal(n.Networks, s.AllowedCIDRs) {
		c.AllowedCIDRs = &n.Networks
		var list []string
		for _, network := range s.AllowedCIDRs {
			list = append(list, network.String())
		}
		differ("Networks", orNothing(strings.Join(list, ", ")))
	}
	if chosen := oauth.NewScope(n.Audiences...); !slices.Equal(chosen, oauth.NewScope(s.Audiences...)) {
		c.Audiences = &n.Audiences
		differ("Audiences", orNothing(strings.Join(s.Audiences, ", ")))
	}
	if n.TokenTTL != s.TokenTTL {
		c.TokenTTL = &n.TokenTTL
		differ("Token lifetime", orNothing(readDuration(s.TokenTTL)))
	}
	if n.PerMinute != s.PerMinute {
		c.PerMinute = &n.PerMinute
		differ("Exchanges per minute", number(s.PerMinute))
	}
	if n.MaxUses != s.MaxUses {
		c.MaxUses = &n.MaxUses
		differ("Most uses", number(s.MaxUses))
	}
}

// editedEnd reads when the key ends, if that shall be another time; zero: never.
func (r *request) editedEnd(s manage.KeyStanding, m *mistakes) (end time.Time, changed bool) {
	now, made, field := r.h.Manager.Time(), s.Standing().MadeAt, fieldExpiresIn
	switch chosen := r.form.Get(fieldExpiresIn); chosen {
	case expiryKeep:
		return end, false
	case expiryNever:
	case expiryCustom:
		field = fieldExpiresOn
		date, err := time.Parse(time.DateOnly, r.form.Get(fieldExpiresOn))
		if end = endOf(date); err != nil || !end.After(now) {
			m.add(field, "Choose a date from today on, such as "+now.UTC().Add(90*day).Format(time.DateOnly)+".")
			return end, false
		}
	default:
		days, err := readDays(chosen)
		if err != nil {
			m.add(field, fmt.Sprintf("Choose when the key ends: 1 to %d days from now, or a date.", policy.MaxDays))
			return end, false
		}
		end = now.Add(time.Duration(days) * day).Truncate(time.Second)
	}
	switch {
	case allows(s.Bounds, end, made):
	case s.Bounds.MaxLifetime > 0:
		m.add(field, "Policy allows at most "+count(int64(s.Bounds.MaxLifetime/day), "day")+" from the newest secret: choose "+date(made.Add(s.Bounds.MaxLifetime))+" or earlier, or rotate the key first.")
	default:
		m.add(field, "Policy wants every key to end: choose when.")
	}
	return end, true
}

func sameScopes(a, b *oauth.Scope) bool {
	return (a == nil) == (b == nil) && (a == nil || slices.Equal(*a, *b))
}

// permissionWords are the permissions of a key in a line.
func permissionWords(scopes *oauth.Scope) string {
	if scopes == nil {
		return "whatever its owner may"
	}
	return orNothing(strings.Join(*scopes, ", "))
}

func orNothing(text string) string {
	if text == "" {
		return "nothing"
	}
	return text
}

func orNever(t workspace.Time) string {
	if t.IsZero() {
		return "never"
	}
	return instant(t.Time)
}
