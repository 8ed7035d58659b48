package console

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/policy"
)

// The fields of a form that restrict a key.
const (
	fieldNetworksOf = "cidr" // networks, one a line
	fieldAudience   = "audience"
	fieldTokenTTL   = "token_ttl" // seconds
	fieldPerMinute  = "exchanges_per_minute"
	fieldMaxUses    = "max_uses"
)

// restrictions is the part that restricts a key.
type restrictions struct {
	Open      bool
	Required  bool // policy wants networks
	Networks  string
	Audiences []pickedAudience
	Fields    []numberField

	WrongNetworks, WrongAudience string
}

type pickedAudience struct {
	Name            string
	Default, Chosen bool
}

// numberField is a field that takes a whole number, or nothing.
type numberField struct {
	Name, Label, Value, Hint, Wrong string
	Least, Most                     int64
}

// numbersOf are the numbers that a key can be restricted by.
func (r *request) numbersOf() []numberField {
	ttl := int64(r.h.Manager.Policy.TokenTTL / time.Second)
	return []numberField{
		{Name: fieldTokenTTL, Label: "Token lifetime in seconds", Hint: fmt.Sprintf("60 to 3600. Empty: %d, as everywhere.", ttl), Least: int64(keys.MinTokenTTL / time.Second), Most: int64(keys.MaxTokenTTL / time.Second)},
		{Name: fieldPerMinute, Label: "Exchanges per minute", Hint: "Empty: no limit but that of the workspace.", Least: 1, Most: keys.MaxPerMinute},
		{Name: fieldMaxUses, Label: "Most uses", Hint: "After so many exchanges the key stops. Empty: any number.", Least: 1, Most: keys.MaxMaxUses},
	}
}

// newRestrictions makes the part for a form.
func (r *request) newRestrictions(form url.Values, p *problem, b policy.Bounds) restrictions {
	part := restrictions{
		Required: b.RequireNetworks, Networks: strings.Join(form[fieldNetworksOf], "\n"), Fields: r.numbersOf(),
		WrongNetworks: p.In(fieldNetworksOf), WrongAudience: p.In(fieldAudience),
	}
	all := r.h.Manager.Policy.Audiences
	if names := all.Names(); len(names) > 1 {
		for _, name := range names {
			part.Audiences = append(part.Audiences, pickedAudience{name, name == all.Default(), slices.Contains(form[fieldAudience], name)})
		}
	}
	part.Open = part.Required || part.Networks != "" || len(form[fieldAudience]) > 0
	for i := range part.Fields {
		f := &part.Fields[i]
		f.Value, f.Wrong = form.Get(f.Name), p.In(f.Name)
		part.Open = part.Open || f.Value != ""
	}
	return part
}

// restriction is what the part says.
type restriction struct {
	Networks           []netip.Prefix
	Audiences          []string
	TokenTTL           time.Duration
	PerMinute, MaxUses int64
}

// restrictionFrom reads the part. The error is mistakes.
func (r *request) restrictionFrom(form url.Values) (restriction, error) {
	var m mistakes
	s := restriction{Audiences: form[fieldAudience]}
	for _, text := range strings.Fields(strings.Join(form[fieldNetworksOf], "\n")) {
		network, wrong := readNetwork(strings.TrimSuffix(text, ","))
		if wrong != "" {
			m.add(fieldNetworksOf, wrong)
			break
		}
		s.Networks = append(s.Networks, network)
	}
	for _, name := range s.Audiences {
		if !r.h.Manager.Policy.Audiences.Known(name) {
			m.add(fieldAudience, "There is no audience “"+name+"”: choose among those that are listed.")
		}
	}
	n := map[string]int64{}
	for _, f := range r.numbersOf() {
		n[f.Name] = f.read(form, &m)
	}
	s.TokenTTL, s.PerMinute, s.MaxUses = time.Duration(n[fieldTokenTTL])*time.Second, n[fieldPerMinute], n[fieldMaxUses]
	return s, m.err()
}

// read reads a number; 0 is nothing.
func (f numberField) read(form url.Values, m *mistakes) int64 {
	text := strings.TrimSpace(form.Get(f.Name))
	if text == "" {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < f.Least || n > f.Most {
		m.add(f.Name, fmt.Sprintf("%s: use %d to %d, or leave it empty.", f.Label, f.Least, f.Most))
		return 0
	}
	return n
}

// readNetwork reads a network or an address. An IPv4 one that is written as IPv6
// would match nothing: it is taken as what it is. wrong is what is wrong with it.
func readNetwork(text string) (network netip.Prefix, wrong string) {
	const mapped = 96 // bits before an IPv4 address in an IPv6 one
	network, err := netip.ParsePrefix(text)
	if address, one := netip.ParseAddr(text); one == nil && address.Zone() == "" {
		network, err = netip.PrefixFrom(address, address.BitLen()), nil
	}
	switch {
	case err != nil:
		return network, "“" + text + "” is no network: use one a line, such as 192.0.2.0/24 or 2001:db8::/32."
	case network.Addr().Is4In6() && network.Bits() < mapped:
		return network, "“" + text + "” holds all IPv4 addresses and more: use 0.0.0.0/0 for IPv4."
	case network.Addr().Is4In6():
		network = netip.PrefixFrom(network.Addr().Unmap(), network.Bits()-mapped)
	}
	return network.Masked(), ""
}
