#!/bin/sh
# Scans the small fixtures of the tests' catalogue under valgrind's memcheck: no error and no lost memory, neither ours nor
# libclamav's.
#
#   scripts/valgrind.sh    about ten seconds; `cargo test -p scan-pipeline-tests --test valgrind` runs it, too
#
# Exit 0 when there is nothing to report. What cannot be repaired here is listed, with its reason, in valgrind.supp.
set -eu

cd "$(dirname "$0")/.."
MOST=256k # A fixture; larger ones show nothing new and take minutes.
LEAST=200 # Fixtures, or the catalogue was not written.

fail() {
    echo "valgrind.sh: $*" >&2
    exit 1
}

command -v valgrind >/dev/null || fail "valgrind is missing; scripts/setup.sh test installs it."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

memcheck() {
    valgrind --quiet --error-exitcode=99 --error-limit=no --num-callers=40 --suppressions=scripts/valgrind.supp \
        --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite --gen-suppressions=all \
        --log-file="$work/log" "$@"
}

# A check that finds nothing has to be one that could: a lost block, and a jump on memory that was never written.
cat >"$work/faulty.c" <<'END'
#include <stdlib.h>
int main(int count, char **args) {
    volatile int *block = malloc(8);
    int unset = count == 1 ? block[0] : 0;
    block = malloc(16);
    return args && unset == 7 ? 3 : 0;
}
END
cc -g -O0 -o "$work/faulty" "$work/faulty.c"
memcheck "$work/faulty" && fail "valgrind finds nothing in a program that is faulty on purpose."
grep -q 'definitely lost' "$work/log" || fail "valgrind does not find lost memory: $(cat "$work/log")"
grep -q 'uninitialised' "$work/log" || fail "valgrind does not find unset memory: $(cat "$work/log")"

# The commands tell where cargo puts programs, whatever its settings are.
program() {
    cargo build --quiet --locked --package "$1" --example "$2" --message-format=json |
        sed -n "s|.*\"name\":\"$2\".*\"executable\":\"\([^\"]*\)\".*|\1|p"
}
dump=$(program scan-pipeline-tests dump)
scan=$(program clamav-core scan)
if [ ! -x "$dump" ] || [ ! -x "$scan" ]; then fail "the examples were not built; see what cargo said above."; fi
"$dump" "$work"
find "$work/files" -type f -size "-$MOST" | sort >"$work/list"
count=$(wc -l <"$work/list")
[ "$count" -ge "$LEAST" ] || fail "only $count fixtures in $work/files; at least $LEAST are expected."

# shellcheck disable=SC2046 # The names hold no blanks.
memcheck "$scan" "$work/definitions" $(cat "$work/list") >"$work/said" 2>&1 || {
    cat "$work/log" >&2
    tail -n 5 "$work/said" >&2
    fail "see above."
}
# All of them, and to all ends: a program that fails at once is clean, too.
for verdict in Infected Clean Unscannable; do
    found=$(grep -c ": $verdict" "$work/said") || true
    [ "$found" -ge 20 ] || fail "only $found fixtures are $verdict: $(tail -n 5 "$work/said")"
    summary="${summary:-}${summary:+, }$found $verdict"
done
told=$(grep -cE ': (Infected|Clean|Unscannable)' "$work/said")
[ "$told" -eq "$count" ] || fail "$count fixtures and $told verdicts: $(grep -vE ': (Infected|Clean|Unscannable)' "$work/said")"
echo "valgrind.sh: $count files ($summary), no error and nothing lost"
