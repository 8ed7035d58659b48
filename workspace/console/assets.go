package console

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"mime"
	"net/http"
	"path"

	"github.com/labstack/echo/v4"
)

//go:embed static
var static embed.FS

// assetsPath is where assets are, below the base. The hash of an asset is part of its
// address, so that browsers may keep it for good.
const assetsPath = "/assets/"

type asset struct {
	path    string // below the base
	kind    string
	content []byte
}

type assets struct{ byName map[string]asset }

func loadAssets() (*assets, error) {
	entries, err := static.ReadDir("static")
	if err != nil {
		return nil, err
	}
	found := &assets{map[string]asset{}}
	for _, entry := range entries {
		content, err := static.ReadFile("static/" + entry.Name())
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(content)
		found.byName[entry.Name()] = asset{
			path: assetsPath + hex.EncodeToString(sum[:]) + "/" + entry.Name(), kind: kindOf(entry.Name()), content: content,
		}
	}
	return found, nil
}

// kindOf does not ask the machine's own table of types, which differs.
func kindOf(name string) string {
	switch path.Ext(name) {
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return mime.TypeByExtension(path.Ext(name))
}

// serveAsset answers with an asset, to be kept for good.
func (h *Handler) serveAsset(c echo.Context) error {
	r := &request{Context: c, h: h}
	secure(c.Response().Header())
	if m := c.Request().Method; m != http.MethodGet && m != http.MethodHead {
		c.Response().Header().Set(echo.HeaderAllow, "GET, HEAD")
		return h.fail(r, errMethod)
	}
	a, known := h.assets.byName[c.Param("name")]
	if !known || a.path != assetsPath+c.Param("hash")+"/"+c.Param("name") {
		return h.fail(r, errNothingHere)
	}
	c.Response().Header().Set(echo.HeaderCacheControl, "public, max-age=31536000, immutable")
	return r.send(http.StatusOK, a.kind, a.content)
}
