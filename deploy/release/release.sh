#!/usr/bin/env bash
# Build a release: release.sh DIRECTORY [OS/ARCH …]
#
# Without platforms it is linux and darwin on amd64 and arm64. For each there is a
# tarball and a bill of materials (CycloneDX), for Linux a Debian package too; at last
# the notes, from deploy/CHANGELOG.md, and SHA256SUMS over everything. VERSION, COMMIT and
# SOURCE_DATE_EPOCH are as in package/binary.sh. The same sources give the same bytes.
# It needs GNU tar, gzip and dpkg-deb.
set -euo pipefail
out=${1:?"usage: release.sh DIRECTORY [OS/ARCH …]"}
shift
platforms=("$@")
[ ${#platforms[@]} -gt 0 ] || platforms=(linux/amd64 linux/arm64 darwin/amd64 darwin/arm64)
if [ -n "$(ls -A "$out" 2>/dev/null)" ]; then
	echo "release: $out is not empty; a release of two builds would be a mixture" >&2
	exit 1
fi
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/../.."

VERSION=${VERSION:-$(git describe --tags --always --dirty)}
COMMIT=${COMMIT:-$(git rev-parse HEAD)}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export VERSION COMMIT SOURCE_DATE_EPOCH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022

# Completions and the bill of materials are written by programs that run here.
unset GOOS GOARCH
here=$(go env GOOS)/$(go env GOARCH)
deploy/package/binary.sh "$work/host"
CGO_ENABLED=0 go build -o "$work/sbom" ./deploy/release/sbom

# The notes are the section of this version, or what is not released yet.
notes() {
	awk -v version="${VERSION#v}" '
		/^## / { inside = ($2 == version || $2 == "[" version "]") }
		inside { print }
	' deploy/CHANGELOG.md >"$work/notes"
	if [ ! -s "$work/notes" ]; then
		awk '/^## / { inside = ($2 == "Unreleased" || $2 == "[Unreleased]") } inside' deploy/CHANGELOG.md >"$work/notes"
	fi
	sed '1s/.*/# Tokenbooth '"$VERSION"'/' "$work/notes" >"$out/release-notes.md"
}

# archive NAME BINARY packs what somebody without a package manager needs.
archive() {
	local top=$work/$1
	mkdir -p "$top/completions" "$top/systemd"
	install -m 0755 "$2" "$top/tokenbooth"
	install -m 0644 LICENSE README.md deploy/CHANGELOG.md deploy/config.yaml "$top/"
	install -m 0644 deploy/systemd/tokenbooth.service deploy/systemd/postgres-and-redis.conf "$top/systemd/"
	install -m 0755 deploy/systemd/tokenbooth-admin "$top/systemd/"
	local shell
	for shell in bash zsh fish powershell; do
		env -i "$work/host" completion "$shell" >"$top/completions/tokenbooth.$shell"
	done
	tar --create --sort=name --format=ustar --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
		--mode=u+rwX,go+rX,go-w --directory "$work" "$1" | gzip -9n >"$out/$1.tar.gz"
	rm -r "$top"
}

for platform in "${platforms[@]}"; do
	export GOOS=${platform%/*} GOARCH=${platform#*/}
	name=tokenbooth_${VERSION#v}_${GOOS}_$GOARCH
	echo "release: $name"
	if [ "$platform" = "$here" ]; then
		cp "$work/host" "$work/binary"
	else
		deploy/package/binary.sh "$work/binary"
	fi
	archive "$name" "$work/binary"
	"$work/sbom" "$work/binary" "$VERSION" "$SOURCE_DATE_EPOCH" >"$out/$name.cdx.json"
	if [ "$GOOS" = linux ]; then
		HOST_BINARY=$work/host deploy/package/deb.sh "$work/binary" "$out" >/dev/null
	fi
done
notes
cd "$out"
find . -type f ! -name SHA256SUMS -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum >SHA256SUMS
