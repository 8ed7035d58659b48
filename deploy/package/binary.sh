#!/usr/bin/env bash
# Build the binary that every package, image and release holds: binary.sh FILE
#
# GOOS and GOARCH choose the platform. VERSION, COMMIT and SOURCE_DATE_EPOCH (seconds
# since 1970) say what it is; where they are missing the repository is asked. The same
# sources, version, commit, time and Go give the same bytes in whatever directory, with
# or without a repository: hence no -buildvcs, and the linker is told instead.
set -euo pipefail
out=${1:?"usage: binary.sh FILE"}
mkdir -p "$(dirname "$out")"
out=$(cd "$(dirname "$out")" && pwd)/$(basename "$out")
cd "$(dirname "$0")/../.."

version=${VERSION:-$(git describe --tags --always --dirty 2>/dev/null || echo dev)}
commit=${COMMIT:-$(git rev-parse HEAD 2>/dev/null || true)}
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || true)}

# Settings of the machine that would change the binary are set aside. The profile is
# cmd/tokenbooth/default.pgo.
unset GOFLAGS GOEXPERIMENT
export CGO_ENABLED=0 GOAMD64=v1 GOARM64=v8.0
exec go build -trimpath -buildvcs=false -pgo=auto \
	-ldflags "-s -w -X main.version=$version -X main.commit=$commit -X main.commitTime=$epoch" \
	-o "$out" ./cmd/tokenbooth
