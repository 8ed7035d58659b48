#!/usr/bin/env bash
# Make the secrets of compose.yaml, once: compose-secrets.sh [DIRECTORY]
#
# The directory, deploy/secrets unless another is named, is readable by you alone. The
# files in it are readable by all, since an engine mounts them as they are into
# containers, which run as users of their own. Back it up, apart from the database.
set -euo pipefail
dir=${1:-$(cd "$(dirname "$0")" && pwd)/secrets}
if [ -e "$dir" ]; then
	echo "compose-secrets: $dir exists and is left as it is: new secrets would fit none of the stored keys" >&2
	exit 1
fi
umask 077
new=$(mktemp -d "$dir.XXXXXX")
trap 'rm -rf "$new"' EXIT
put() { cat >"$new/$1"; }

printf '1:%s\n' "$(openssl rand -base64 32)" | put pepper
openssl rand -base64 32 | put id_key
printf '1:%s\n' "$(openssl rand -base64 32)" | put key_encryption_key
# Hexadecimal: nothing in them needs an escape in a URL.
postgres=$(openssl rand -hex 24)
redis=$(openssl rand -hex 24)
printf '%s\n' "$postgres" | put postgres_password
printf 'postgres://tokenbooth:%s@postgres:5432/tokenbooth?sslmode=disable\n' "$postgres" | put database_url
printf 'redis://tokenbooth:%s@redis:6379/0\n' "$redis" | put redis_url
# The default user may ask for a sign of life and nothing else: the health check.
put redis_acl <<END
user default on nopass resetkeys resetchannels -@all +ping
user tokenbooth on >$redis resetkeys ~tokenbooth:* resetchannels &tokenbooth:* -@all +@read +@write +@connection -@dangerous +eval +evalsha +script|load +time +ping +info +config|get +cluster|slots +publish +subscribe
END
chmod 0444 "$new"/*
mv -T "$new" "$dir"
trap - EXIT
echo "compose-secrets: made $dir; back it up, apart from the database"
