package main

import (
	"context"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
)

// device gives a browser an authenticator that verifies whoever asks.
func (b *tab) device() (remove func()) {
	b.t.Helper()
	var id webauthn.AuthenticatorID
	b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		if _, err := cdp.Call(ctx, target, webauthn.Enable, webauthn.EnableParams{}); err != nil {
			return err
		}
		made, err := cdp.Call(ctx, target, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{
			Options: &webauthn.VirtualAuthenticatorOptions{
				Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportInternal,
				HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
			},
		})
		id = made.AuthenticatorID
		return err
	}))
	return func() {
		b.t.Helper()
		b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
			_, err := cdp.Call(ctx, target, webauthn.RemoveVirtualAuthenticator, webauthn.RemoveVirtualAuthenticatorParams{AuthenticatorID: id})
			return err
		}))
	}
}

// registered is a browser with a device, whose owner has just made a passkey.
func registered(t *testing.T) (d *devServer, b *tab, remove func()) {
	t.Helper()
	d = devReady(t, "--listen", "localhost:0")
	if !strings.HasPrefix(d.Issuer, "http://localhost:") {
		t.Fatalf("the issuer is %s", d.Issuer)
	}
	b = newTab(t)
	remove = b.device()
	b.open(d.ConsoleURL + "&next=/account")
	b.fill("#passkey-name", "Laptop")
	b.press("form[data-passkey=create] button")
	b.shows("The passkey is added")
	b.shows("Laptop")
	b.clean()
	return d, b, remove
}

func (b *tab) signOut() {
	b.t.Helper()
	b.click(".menu:not(.only-phone) > summary")
	b.press("form[action$='/sign-out'] button")
	b.shows("You are signed out")
}

// A person makes a passkey in a real browser, signs out, and signs in with it alone.
func TestPasskeyInABrowser(t *testing.T) {
	t.Parallel()
	d, b, remove := registered(t)
	b.accessible()
	b.fits()
	b.fill("#passkey-name", "Again")
	b.click("form[data-passkey=create] button")
	b.shows("This device has a passkey of yours already")

	b.open(d.Issuer + "/account")
	b.signOut()
	b.open(d.Issuer + "/sign-in?next=/w/demo")
	b.accessible()
	b.fits()
	b.press("form[data-passkey=get] button")
	if b.path() != "/w/demo" {
		t.Errorf("at %s", b.outline())
	}
	b.clean()

	b.signOut()
	remove()
	b.device() // which has no passkey
	b.open(d.Issuer + "/sign-in")
	b.click("form[data-passkey=get] button")
	b.shows("It was cancelled, or took too long")
	if b.open(d.Issuer + "/w/demo"); b.path() != "/sign-in" {
		t.Errorf("at %s", b.outline())
	}
	b.clean()
}

// With a passkey, a password alone does not sign in any more.
func TestPasskeyAfterAPasswordInABrowser(t *testing.T) {
	t.Parallel()
	const password = "hunter2 hunter2 hunter2" // which no log may hold
	d, b, remove := registered(t)
	b.fill("#password", password)
	b.press("form[action$='/account/password'] button")
	b.shows("Your password is set")
	b.signOut()

	b.open(d.Issuer + "/sign-in?next=/w/demo")
	b.fill("#email", "owner@demo.example")
	b.fill("#password", password)
	b.press("form[action$='/sign-in'] button")
	b.shows("Confirm with a passkey")
	b.accessible()
	b.fits()
	if b.open(d.Issuer + "/w/demo"); b.path() != "/sign-in" {
		t.Errorf("a password alone signs in: at %s", b.outline())
	}
	b.open(d.Issuer + "/sign-in/passkey")
	b.press("form[data-passkey=get] button")
	if b.path() != "/w/demo" {
		t.Errorf("at %s", b.outline())
	}
	b.open(d.Issuer + "/account")
	b.shows("a password and a passkey")
	b.clean()

	b.signOut()
	b.noScript()
	b.open(d.Issuer + "/sign-in")
	b.shows("Passkeys need JavaScript")
	remove()
}
