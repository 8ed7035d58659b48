#!/bin/sh
# Exchange an API key of Tokenbooth for a token. It needs a POSIX shell and curl, and
# neither jq nor the tokenbooth binary.
#
#   tokenbooth-login.sh [raw|header|github|terraform]
#
#   raw        the token and a line end (the default)
#   header     Authorization: Bearer …, for curl -H @-
#   github     mask the token in the log of GitHub Actions, then set the step's outputs
#   terraform  a JSON object, for Terraform's data source "external"
#
# It reads the environment:
#
#   TOKENBOOTH_URL                 where the Tokenbooth is: https://login.example.com
#   TOKENBOOTH_CLIENT_SECRET       the secret, or with _FILE added the file that holds it
#   TOKENBOOTH_CLIENT_ID           the key ID; the secret names it too
#   TOKENBOOTH_SCOPE               narrow the token to these scopes, separated by spaces
#   TOKENBOOTH_AUDIENCE            whom the token is for; several are separated by spaces
#   TOKENBOOTH_CA_CERT             a file with the CA to trust instead of the system's
#   TOKENBOOTH_TIMEOUT             give up after so many seconds, 60 by default
#
# The exit code tells what to do: 1 it failed here, 2 the environment is wrong, 3 the
# Tokenbooth did not answer or asks to wait for longer: try again, 4 it refused.
#
# The secret and the token are on no command line, not even for a moment: they go
# through here-documents, since printf is a program of its own in some shells.

# Whoever traces this script would have both in the log.
{ set +x; } 2>/dev/null
set -euf
umask 077

format=${1:-raw}
tries=5
warn_days=14

# say writes a line for people. GitHub shows its own kind at the top of the run.
say() { # KIND TEXT
	if [ "$format" = github ]; then
		echo "::$1 title=Tokenbooth::$(echo "$2" | sed 's/%/%25/g')"
	else
		echo "tokenbooth-login: $2" >&2
	fi
}

fail() { # CODE TEXT
	say error "$2"
	exit "$1"
}

check() {
	case $format in
	raw | header | terraform)
		case ${CI_DEBUG_TRACE:-} in
		true | 1) fail 1 "CI_DEBUG_TRACE is on: the job's log would show the token. Turn it off." ;;
		esac
		;;
	github) [ -n "${GITHUB_OUTPUT:-}" ] || fail 2 "github is for a step of GitHub Actions, where GITHUB_OUTPUT names a file." ;;
	*) fail 2 "the format is none of raw, header, github, terraform." ;;
	esac
	command -v curl >/dev/null || fail 1 "it needs curl: install it, or use an image that has it."
	[ -z "${TOKENBOOTH_CA_CERT:-}" ] || [ -r "$TOKENBOOTH_CA_CERT" ] || fail 1 "TOKENBOOTH_CA_CERT cannot be read."
	timeout=${TOKENBOOTH_TIMEOUT:-60}
	case $timeout in
	'' | *[!0-9]*) fail 2 "TOKENBOOTH_TIMEOUT is a number of seconds, such as 60." ;;
	esac
}

# locate reads where the Tokenbooth is. In the clear it is asked on this machine only.
locate() {
	url=${TOKENBOOTH_URL:-}
	url=${url%/}
	case $url in
	'') fail 2 "TOKENBOOTH_URL is not set: it says where the Tokenbooth is, like https://login.example.com." ;;
	*[!][A-Za-z0-9._:/~%-]*) fail 2 "TOKENBOOTH_URL is not like https://login.example.com." ;;
	esac
	case $url in
	https://?*) ;;
	http://*)
		host=${url#http://}
		case ${host%%/*} in
		localhost | localhost:* | 127.0.0.1 | 127.0.0.1:* | '[::1]' | '[::1]':*) ;;
		*) fail 2 "$url would send the secret in the clear: use https (http is for this machine only)." ;;
		esac
		;;
	*) fail 2 "TOKENBOOTH_URL is not like https://login.example.com." ;;
	esac
}

# identify reads the key. A secret is <prefix>s_<id>_<random>, or with p for a person's
# own, and its key ID <prefix>k_<id>.
identify() {
	secret=${TOKENBOOTH_CLIENT_SECRET:-}
	file=${TOKENBOOTH_CLIENT_SECRET_FILE:-}
	[ -z "$secret" ] || [ -z "$file" ] || fail 2 "TOKENBOOTH_CLIENT_SECRET and TOKENBOOTH_CLIENT_SECRET_FILE are both set: set one."
	if [ -n "$file" ]; then
		secret=$(cat "$file") || fail 1 "TOKENBOOTH_CLIENT_SECRET_FILE cannot be read."
	fi
	secret=$(tr -d '\r\n' <<-end
		$secret
	end
	)
	case $secret in
	'') fail 2 "the secret is missing: set TOKENBOOTH_CLIENT_SECRET. (CI systems leave secrets out of runs of forks and of unprotected branches.)" ;;
	*[!0-9A-Za-z_]*) fail 2 "the secret has a character that no secret has: copy it again, without quotes and spaces." ;;
	esac
	id=${TOKENBOOTH_CLIENT_ID:-}
	if [ -z "$id" ]; then
		named=${secret%_*}
		kind=${named%_*}
		id=${kind%[sp]}k_${named##*_}
	fi
	case $id in
	*[!0-9A-Za-z_]*) fail 2 "TOKENBOOTH_CLIENT_ID is not like tbk_06h0af3bbdyyn7edz9sv3qpehc." ;;
	esac
}

# ask sends one request. It prints the head of the answer, the body, and on a line of
# its own the status.
ask() {
	set -- --silent --show-error --include --suppress-connect-headers --no-location --connect-timeout 10 --max-time 15 \
		--header 'Accept: application/json' --user-agent tokenbooth-login --write-out '\n%{http_code}' --data @-
	[ -z "${TOKENBOOTH_CA_CERT:-}" ] || set -- "$@" --cacert "$TOKENBOOTH_CA_CERT"
	[ -z "${TOKENBOOTH_SCOPE:-}" ] || set -- "$@" --data-urlencode "scope=$TOKENBOOTH_SCOPE"
	for audience in ${TOKENBOOTH_AUDIENCE:-}; do
		set -- "$@" --data-urlencode "audience=$audience"
	done
	curl "$@" "$url/api/login" <<-end
		grant_type=client_credentials&client_id=$id&client_secret=$secret
	end
}

# search applies an expression of sed to the answer.
search() {
	sed -n "$1" <<-end | tail -n 1
		$answer
	end
}

# text and number read a member of the answer, which is a flat JSON object.
text() { search "s/\\\\\"/'/g; s/.*\"$1\"[[:space:]]*:[[:space:]]*\"\\([^\"]*\\)\".*/\\1/p"; }
number() { search "s/.*\"$1\"[[:space:]]*:[[:space:]]*\\([0-9][0-9]*\\).*/\\1/p"; }
header() { search "s/^$1:[[:space:]]*\\([!-~]*\\).*/\\1/p"; }

# printable is a text member without what a terminal, echo or GitHub would obey.
printable() { text "$1" | tr -cd ' -[]-~'; }

# refused says what the Tokenbooth said. It may be anybody who says it.
refused() {
	said="$url refuses key $id: $status $(printable error) $(printable error_description)"
	request=$(header '[Rr]equest-[Ii]d')
	[ -z "$request" ] || said="$said (request ID $request)"
	case $said in
	*"$secret"*) said="$url refuses key $id: $status, in words that hold the secret." ;;
	esac
}

# exchange asks until there is an answer, the tries are used up or the time is. It
# never asks again earlier than the answer allows, and not all jobs at once.
exchange() {
	deadline=$(($(date +%s) + timeout))
	try=1
	pause=1
	while :; do
		code=0
		answer=$(ask) || code=$?
		status=$(search "\$p")
		after=
		case $code in
		0) ;;
		1 | 2 | 3 | 26 | 60 | 77) fail 1 "curl cannot ask $url: its message is above." ;;
		*) status=none ;;
		esac
		case $status in
		200) return ;;
		none) said="cannot reach $url (curl ends with $code)" ;;
		429 | 5??)
			refused
			after=$(header '[Rr]etry-[Aa]fter')
			;;
		400 | 401 | 403)
			refused
			fail 4 "$said"
			;;
		*) fail 1 "$url answers $status: is it the URL of a Tokenbooth?" ;;
		esac
		wait=$((pause + $$ % (pause / 2 + 1)))
		case $after in
		'' | *[!0-9]* | ???????*) ;; # a date, which only some proxy would send
		*) [ "$after" -le "$wait" ] || wait=$after ;;
		esac
		[ "$try" -lt "$tries" ] || fail 3 "$said. It was tried $try times: try again later."
		[ $(($(date +%s) + wait)) -le "$deadline" ] || fail 3 "$said. Try again in $wait seconds."
		echo "tokenbooth-login: $said; trying again in $wait s" >&2
		sleep "$wait"
		try=$((try + 1))
		pause=$((pause * 2))
	done
}

# days counts the days from some day to a date like 2026-11-28.
days() {
	year=${1%%-*}
	day=${1##*-}
	month=${1#*-}
	month=${month%-*}
	day=${day#0}
	month=${month#0}
	[ "$month" -gt 2 ] || {
		year=$((year - 1))
		month=$((month + 12))
	}
	echo $((365 * year + year / 4 - year / 100 + year / 400 + (153 * month - 457) / 5 + day))
}

# warn says that the key itself expires soon.
warn() {
	case $expiry in
	[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T*) ;;
	*) return 0 ;;
	esac
	left=$(($(days "${expiry%%T*}") - $(days "$(date -u +%Y-%m-%d)")))
	[ "$left" -gt "$warn_days" ] ||
		say warning "the key $id expires at $expiry (days left: $left). Rotate it: see its page in the console, $url."
}

write() {
	token=$(text access_token)
	case $token in
	'' | *[!A-Za-z0-9._~+/=-]*) fail 1 "$url answers, but not with a token: is it the URL of a Tokenbooth?" ;;
	esac
	life=$(number expires_in)
	scope=$(text scope)
	expiry=$(text key_expires_at)
	case $format in
	raw) cat <<-end ;;
		$token
	end
	header) cat <<-end ;;
		Authorization: Bearer $token
	end
	terraform) cat <<-end ;;
		{"token":"$token","expires_in":"$life","scope":"$scope","key_expires_at":"$expiry"}
	end
	github)
		cat <<-end
			::add-mask::$token
		end
		cat >>"$GITHUB_OUTPUT" <<-end
			token=$token
			expires-in=$life
			scope=$scope
			key-expires-at=$expiry
		end
		;;
	esac
	warn
}

check
locate
identify
exchange
write
