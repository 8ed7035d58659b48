package console

import "net/http"

// asking is what a page says that asks before something is done.
type asking struct {
	Lead     string
	Effects  []string // what happens, in sentences
	Button   string
	Danger   bool
	Type     string // what has to be typed; empty: nothing
	Back     string // where not doing it leads
	BackText string
	Hidden   map[string]string
}

// ask makes the page that asks.
func ask(title, section string, a asking) page {
	return page{template: "asking", title: title, section: section, data: a}
}

// typed refuses a form in which what has to be typed is not.
func (r *request) typed(a asking) error {
	var m mistakes
	if a.Type != "" && r.text("confirm") != a.Type {
		m.add("confirm", "Type “"+a.Type+"” exactly, so that it is not done by accident.")
	}
	return m.err()
}

// answered asks with GET. With POST it does it, and goes to an address where a notice
// tells of it, unless it fails for a reason that the page can tell.
func (r *request) answered(title, section string, a asking, do func() error, to, notice string) (page, error) {
	p := ask(title, section, a)
	if r.Request().Method != http.MethodPost {
		return p, nil
	}
	if err := r.typed(a); err != nil {
		return p.again(err)
	}
	err := do()
	if err != nil && !pending(err) {
		return p.again(err)
	}
	return done(err, to, notice), nil
}

// done goes to an address where a notice tells what was done, or that it is not in
// force everywhere yet.
func done(err error, to, notice string) page {
	if pending(err) {
		notice = "pending"
	}
	return seeOther(to + "?notice=" + notice)
}
