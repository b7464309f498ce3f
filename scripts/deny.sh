#!/bin/sh
# Holds the dependencies against deny.toml: licences, duplicates and sources always, known vulnerabilities when their
# database can be had. That database is a git repository: where it can be neither fetched nor found from before, this
# says so, here and at the end of `make check`, instead of passing as if it had looked.
#
#   REQUIRE_ADVISORIES=1   makes "could not look" a failure: for a release, and for CI that has the network
set -eu

STATUS=${1:?usage: scripts/deny.sh FILE, which says afterwards whether advisories were checked}
MAX_AGE_DAYS=30
databases=${CARGO_HOME:-$HOME/.cargo}/advisory-dbs

mkdir -p "$(dirname "$STATUS")"
rm -f "$STATUS"

# No inclusion graphs: they bury the finding, and `cargo tree -i` prints them on demand.
cargo deny --locked --all-features check --hide-inclusion-graph licenses bans sources

# What a default build holds goes out with libclamav, under GPL-2.0-only. The exceptions of deny.toml must not get there.
for package in scan-pipeline scan-pipeline-python; do
    apache=$(cargo tree --locked --package "$package" --edges normal --prefix none --format '{p}: {l}' |
        grep -E ': (.* AND )?Apache-2\.0( AND .*)?( \(\*\))?$' || true)
    if [ -n "$apache" ]; then
        echo "The default build of $package must hold nothing under Apache-2.0 alone, and holds:" >&2
        echo "$apache" >&2
        exit 1
    fi
done

# The date of the database's newest entry, if that is recent: the age of a file would say when we last tried.
recent() {
    for database in "$databases"/advisory-db-*; do
        git -C "$database" log -1 --since="$MAX_AGE_DAYS days ago" --format=%cs 2>/dev/null || true
    done
}

fetch() {
    export GIT_TERMINAL_PROMPT=0
    if command -v timeout >/dev/null; then set -- timeout 120; else set --; fi
    "$@" cargo deny --locked fetch db 2>&1
}

if why=$(fetch); then
    found="the database as it is now"
elif newest=$(recent) && [ -n "$newest" ]; then
    found="the database of $newest, since a newer one cannot be fetched"
else
    why=$(echo "$why" | grep -v '^[[:space:]]*$' | tail -n 1)
    message="ADVISORIES NOT CHECKED: the RustSec database can be neither fetched nor found from the last $MAX_AGE_DAYS days"
    echo "$message (${why:-no reason was given})" >&2
    echo "$message" >"$STATUS"
    if [ "${REQUIRE_ADVISORIES:-0}" = 1 ]; then exit 1; fi
    exit 0
fi
cargo deny --offline --locked --all-features check --hide-inclusion-graph advisories
echo "advisories checked against $found" | tee "$STATUS"
