package console

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func (h *Handler) keyListRoutes() []route {
	const get, post = http.MethodGet, http.MethodPost
	return []route{
		{method: get, path: "/w/:ws/keys", run: listKeys},
		{method: get, path: "/w/:ws/keys.csv", run: exportKeys},
		{method: get, path: "/w/:ws/keys/revoke", run: toKeys}, // where a form was, after signing in again
		{method: post, path: "/w/:ws/keys/revoke", run: confirmRevoking},
		{method: post, path: "/w/:ws/keys/revoke/confirmed", run: revokeKeys},
	}
}

func toKeys(r *request) (page, error) { return seeOther(r.here("keys")), nil }

// maxSearch bounds what is searched for, in bytes.
const maxSearch = 200

// choice is which keys a list shows, and how, as its address says it. What an address
// says that nobody understands is what it is without.
type choice struct {
	Text    string
	OwnerID string
	Group   keys.Group
	Order   keys.Order
	Reverse bool
	page    int // from 1
	r       *request
}

// orders are those that an address may ask for, beside the usual one.
var orders = []keys.Order{keys.ByName, keys.ByUse, keys.ByExpiry, keys.ByCreation}

func (r *request) readChoice(query url.Values) choice {
	c := choice{Text: strings.TrimSpace(strings.ToValidUTF8(strings.ReplaceAll(query.Get("q"), "\x00", ""), "")), OwnerID: query.Get("owner"), r: r, page: 1}
	if len(c.Text) > maxSearch {
		c.Text = strings.ToValidUTF8(c.Text[:maxSearch], "")
	}
	if !plain(c.OwnerID) {
		c.OwnerID = ""
	}
	c.Group = keys.GroupLive
	for _, g := range keyGroups {
		if string(g.group) == query.Get("status") {
			c.Group = g.group
		}
	}
	order, back := strings.CutPrefix(query.Get("sort"), "-")
	if slices.Contains(orders, keys.Order(order)) {
		c.Order, c.Reverse = keys.Order(order), back
	}
	if n, err := strconv.Atoi(query.Get("page")); err == nil && n > 1 && n < 1_000_000 {
		c.page = n
	}
	return c
}

// selection is the same for the use case.
func (c choice) selection() keys.Selection {
	return keys.Selection{Group: c.Group, Owner: c.OwnerID, Text: c.Text, Order: c.Order, Reverse: c.Reverse}
}

// Query is what the address says, without what is usual.
func (c choice) Query() string {
	query := url.Values{}
	set := func(name, value string) {
		if value != "" {
			query.Set(name, value)
		}
	}
	set("q", c.Text)
	set("owner", c.OwnerID)
	if c.Group != keys.GroupLive {
		set("status", string(c.Group))
	}
	set("sort", c.Sort())
	if c.page > 1 {
		set("page", strconv.Itoa(c.page))
	}
	return query.Encode()
}

// Sort is the order as the address says it; empty: the usual one.
func (c choice) Sort() string {
	if c.Reverse {
		return "-" + string(c.Order)
	}
	return string(c.Order)
}

// address is that of the list.
func (c choice) address(of string) string {
	if query := c.Query(); query != "" {
		return c.r.here(of) + "?" + query
	}
	return c.r.here(of)
}

// URL is the address of the list.
func (c choice) URL() string { return c.address("keys") }

func (c choice) onPage(n int) choice { c.page = n; return c }

func (c choice) showing(g keys.Group) choice { c.Group = g; return c.onPage(1) }

func (c choice) sorted(o keys.Order, back bool) choice {
	c.Order, c.Reverse = o, back
	return c.onPage(1)
}

// keyGroups are the groups that a list offers.
var keyGroups = []struct {
	group keys.Group
	text  string
}{
	{keys.GroupLive, "Active"},
	{keys.GroupExpiring, "Expiring within 14 days"},
	{keys.GroupUnused, "Unused for 90 days"},
	{keys.GroupNeverUsed, "Never used"},
	{keys.GroupExpired, "Expired"},
	{keys.GroupRevoked, "Revoked"},
	{keys.GroupAll, "All"},
}

// keyChip offers one group.
type keyChip struct {
	Text, URL string
	Count     int64
	Current   bool
}

// keyColumn is the head of a column; one without an address is no order.
type keyColumn struct {
	Text, URL, Sort string // Sort is what the list is ordered by, for aria-sort
}

// keyList is what the page shows.
type keyList struct {
	choice
	Rows         []shownKey
	Chips        []keyChip
	Columns      []keyColumn
	Counts       keys.Counts
	Total        int64
	First, Last  int64 // row numbers, from 1
	Before, Next string
	Owner        string // whose keys alone are shown; empty: everybody's
	Export       string
}

func listKeys(r *request) (page, error) { return r.keyListPage(r.readChoice(r.QueryParams())) }

func (r *request) keyListPage(c choice) (page, error) {
	found, err := r.h.Manager.KeyList(r.ctx, r.by, r.ws.ID, c.selection(), (c.page-1)*perPage, perPage)
	if err != nil {
		return page{}, err
	}
	c.page = found.Offset/perPage + 1
	l := keyList{choice: c, Counts: found.Counts, Total: found.Total, First: int64(found.Offset) + 1, Last: int64(found.Offset + len(found.Rows))}
	for _, row := range found.Rows {
		l.Rows = append(l.Rows, r.showRow(row))
	}
	if c.page > 1 {
		l.Before = c.onPage(c.page - 1).URL()
	}
	if l.Last < l.Total {
		l.Next = c.onPage(c.page + 1).URL()
	}
	if c.OwnerID != "" {
		l.Owner = c.OwnerID
		if len(found.Rows) > 0 && found.Rows[0].OwnerName != "" {
			l.Owner = found.Rows[0].OwnerName
		}
	}
	l.Export = c.onPage(1).address("keys.csv")
	l.Chips, l.Columns = c.chips(found.Counts), c.columns()
	return page{template: "key_list", title: "API keys", section: "keys", data: l}, nil
}

// showRow is what a list shows of a key of which it knows who is behind it.
func (r *request) showRow(row manage.KeyRow) shownKey {
	s := r.showKey(row.Listed)
	s.permit(row.Holds, r.h.Manager.Policy.Catalogue)
	if row.OwnerDisabled && !s.Ended {
		s.Blocked = append(s.Blocked, "its owner is disabled")
		s.Pill = s.pill()
	}
	if row.CreatorName != "" && s.CreatedBy != "You" {
		s.CreatedBy = row.CreatorName
	}
	return s
}

func (c choice) chips(counts keys.Counts) (all []keyChip) {
	for _, g := range keyGroups {
		all = append(all, keyChip{g.text, c.showing(g.group).URL(), counts.Of(g.group), c.Group == g.group})
	}
	return all
}

// columns head the table. The one that the list is ordered by turns the order round.
func (c choice) columns() (all []keyColumn) {
	for _, column := range []struct {
		text  string
		order keys.Order
		back  bool // its order begins with the largest
	}{
		{"Name", keys.ByName, false}, {"Key ID", "", false}, {"Permissions", "", false}, {"Status", "", false},
		{"Last used", keys.ByUse, true}, {"Expires", keys.ByExpiry, false}, {"Created by", keys.ByCreation, true},
	} {
		head := keyColumn{Text: column.text}
		if column.order != "" {
			head.URL = c.sorted(column.order, c.Order == column.order && !c.Reverse).URL()
		}
		if column.order != "" && c.Order == column.order {
			head.Sort = "ascending"
			if column.back != c.Reverse {
				head.Sort = "descending"
			}
		}
		all = append(all, head)
	}
	return all
}

// Usual is the address of the list by need of attention; empty: it is.
func (l keyList) Usual() string {
	if l.Order == "" {
		return ""
	}
	return l.sorted("", false).URL()
}

// Nothing reports whether the workspace has no keys at all.
func (l keyList) Nothing() bool {
	return l.Text == "" && l.OwnerID == "" && l.Counts.Of(keys.GroupAll) == 0
}

// All reports whether ended keys are shown among the others.
func (l keyList) All() bool { return l.Group == keys.GroupAll }

// Everything is the address of the list with ended keys too.
func (l keyList) Everything() string { return l.showing(keys.GroupAll).URL() }

// Live is the address of the list without ended keys.
func (l keyList) Live() string { return l.showing(keys.GroupLive).URL() }

// WithoutText is the address of the list with nothing searched for.
func (l keyList) WithoutText() string { c := l.onPage(1); c.Text = ""; return c.URL() }

// WithoutOwner is the address of the list with everybody's keys.
func (l keyList) WithoutOwner() string { c := l.onPage(1); c.OwnerID = ""; return c.URL() }

// Hidden is how many keys match, and are in other groups.
func (l keyList) Hidden() int64 { return l.Counts.Of(keys.GroupAll) - l.Total }

// HiddenText says so; empty: there are none.
func (l keyList) HiddenText() string {
	n := l.Hidden()
	if n == 0 {
		return ""
	}
	text := count(n, "key") + " of another status"
	if l.Group == keys.GroupLive {
		text = count(n, "inactive key")
	}
	if n == 1 {
		return text + " is hidden"
	}
	return text + " are hidden"
}

// scopeText is a scope as one cell has it.
func scopeText(s oauth.Scope) string { return strings.Join(s, " ") }
