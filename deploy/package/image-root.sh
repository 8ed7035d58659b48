#!/usr/bin/env bash
# Make the root file system of the container image: image-root.sh BINARY DIRECTORY
#
# The Dockerfile copies what this makes, and nothing else, onto an empty image. There is
# no shell, no package manager and no library in it: the binary is static. The directory
# must not exist. Run it as root: /data belongs to the user of the image.
set -euo pipefail
binary=${1:?"usage: image-root.sh BINARY DIRECTORY"}
root=${2:?"usage: image-root.sh BINARY DIRECTORY"}
user=65532
certificates=${CERTIFICATES:-/etc/ssl/certs/ca-certificates.crt}
sources=$(cd "$(dirname "$0")/../.." && pwd)

if [ "$(id -u)" -ne 0 ]; then
	echo "image-root: run this as root, so that /data can be given to user $user" >&2
	exit 1
fi
if [ ! -s "$certificates" ]; then
	echo "image-root: there are no CA certificates at $certificates; install ca-certificates or set CERTIFICATES" >&2
	exit 1
fi
if [ -e "$root" ]; then
	echo "image-root: $root exists; name a directory that does not" >&2
	exit 1
fi

umask 022
mkdir -p "$root"/etc/ssl/certs "$root"/usr/share/doc/tokenbooth
install -m 0755 "$binary" "$root/tokenbooth"
install -m 0644 "$certificates" "$root/etc/ssl/certs/ca-certificates.crt"
install -m 0644 "$sources/LICENSE" "$root/usr/share/doc/tokenbooth/LICENSE"

# Names, for programs that look for the user that they run as.
printf 'root:x:0:0:root:/:/sbin/nologin\ntokenbooth:x:%s:%s:Tokenbooth:/data:/sbin/nologin\n' $user $user >"$root/etc/passwd"
printf 'root:x:0:\ntokenbooth:x:%s:\n' $user >"$root/etc/group"
# Container engines mount their own over these.
printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
: >"$root/etc/resolv.conf"

# The two places that may be written: the embedded database, and scratch.
install -d -m 1777 "$root/tmp"
install -d -m 0700 -o $user -g $user "$root/data"
