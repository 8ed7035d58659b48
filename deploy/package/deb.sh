#!/usr/bin/env bash
# Make the Debian package: deb.sh BINARY DIRECTORY
#
# GOARCH says for which processor the binary is, this machine's unless it is set; VERSION
# and SOURCE_DATE_EPOCH are as in binary.sh. HOST_BINARY is one that runs here, for the
# shell completions; it is BINARY unless it is set. The same input gives the same bytes.
set -euo pipefail
binary=${1:?"usage: deb.sh BINARY DIRECTORY"}
out=${2:?"usage: deb.sh BINARY DIRECTORY"}
deploy=$(cd "$(dirname "$0")/.." && pwd)

command -v dpkg-deb >/dev/null || { echo "deb: dpkg-deb is missing: install dpkg" >&2; exit 1; }
version=${VERSION:-$(git -C "$deploy" describe --tags --always --dirty 2>/dev/null || echo dev)}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$deploy" log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH DPKG_DEB_THREADS_MAX=1 # with more threads xz cuts the data otherwise
arch=${GOARCH:-$(go env GOARCH)}
host=$(realpath "${HOST_BINARY:-$binary}")

# v1.2.3 is 1.2.3, three commits later v1.2.3-3-gabcdef0 is 1.2.3+3.gabcdef0; without a
# tag it sorts before all releases. v2.0.0-rc.1 sorts before 2.0.0.
debian_version() {
	local v=${1#v}
	if [[ ! $v =~ ^[0-9]+\.[0-9]+\.[0-9]+ ]]; then
		v=0~git.$v
	elif [[ $v =~ ^([0-9.]+)-([0-9]+-g.*)$ || $v =~ ^([0-9.]+)-(dirty)$ ]]; then
		v=${BASH_REMATCH[1]}+${BASH_REMATCH[2]}
	else
		v=${v/-/\~}
	fi
	echo "${v//-/.}"
}
version=$(debian_version "$version")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
umask 022

# put MODE FILE PATH installs a file at a path of the package.
put() { install -D -m "$1" "$2" "$root/$3"; }
put 0755 "$binary" usr/bin/tokenbooth
put 0755 "$deploy/systemd/tokenbooth-admin" usr/sbin/tokenbooth-admin
put 0644 "$deploy/systemd/tokenbooth.service" usr/lib/systemd/system/tokenbooth.service
put 0644 "$deploy/config.yaml" etc/tokenbooth/config.yaml
put 0644 "$deploy/systemd/postgres-and-redis.conf" usr/share/doc/tokenbooth/examples/postgres-and-redis.conf
put 0644 "$deploy/package/debian/copyright" usr/share/doc/tokenbooth/copyright
(cd "$deploy/docs" && find . -name '*.md' -print0) | while IFS= read -r -d '' page; do
	put 0644 "$deploy/docs/$page" "usr/share/doc/tokenbooth/${page#./}"
done
gzip -9n <"$deploy/CHANGELOG.md" >"$root/usr/share/doc/tokenbooth/changelog.gz"

# complete SHELL PATH lets the binary write its completions.
complete() {
	mkdir -p "$root/$(dirname "$2")"
	env -i "$host" completion "$1" >"$root/$2"
}
complete bash usr/share/bash-completion/completions/tokenbooth
complete zsh usr/share/zsh/vendor-completions/_tokenbooth
complete fish usr/share/fish/vendor_completions.d/tokenbooth.fish

mkdir "$root/DEBIAN"
cat >"$root/DEBIAN/control" <<END
Package: tokenbooth
Version: $version
Architecture: $arch
Maintainer: The Tokenbooth authors <security@tokenbooth.invalid>
Installed-Size: $(find "$root" -type f -printf '%s\n' | awk '{ kilobytes += int(($1 + 1023) / 1024) } END { print kilobytes }')
Recommends: ca-certificates
Suggests: postgresql, redis-server
Section: net
Priority: optional
Homepage: https://github.com/tokenbooth/tokenbooth
Description: exchange of API keys for short-lived tokens
 Tokenbooth exchanges a workspace's long-lived API key for a short-lived JWT that
 any service verifies offline. It keeps its data in SQLite, or in PostgreSQL and
 Redis for any number of replicas.
 .
 The package holds the server, which is its own command line, and a systemd unit.
 It does not start before its configuration is filled in.
END
install -m 0644 "$deploy/package/debian/conffiles" "$root/DEBIAN/conffiles"
install -m 0755 "$deploy"/package/debian/{postinst,prerm,postrm} "$root/DEBIAN/"
(cd "$root" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | LC_ALL=C sort -z | xargs -0 md5sum) >"$work/md5sums"
install -m 0644 "$work/md5sums" "$root/DEBIAN/md5sums"
find "$root" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +

mkdir -p "$out"
dpkg-deb --root-owner-group -Zxz --build "$root" "$out/tokenbooth_${version}_$arch.deb" >/dev/null
echo "$out/tokenbooth_${version}_$arch.deb"
