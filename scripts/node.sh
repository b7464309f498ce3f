#!/bin/sh
# The Node package, bindings-node.
#
#   scripts/node.sh test [FLAGS]   builds it and runs its tests; FLAGS are those of the cargo test before it, so that
#                                  nothing but the addon is compiled
#   scripts/node.sh bench [FLAGS]  measures what a scan costs over the Rust call; FLAGS are those of benches/scan.mjs
#   scripts/node.sh demo           starts its upload page
#   scripts/node.sh pack           builds what users install: bindings-node/scan-pipeline-VERSION.tgz
set -eu

cd "$(dirname "$0")/.."
CARGO=${CARGO:-cargo}
target=${CARGO_TARGET_DIR:-target}
package=bindings-node

fail() {
    echo "node: $*" >&2
    exit 1
}

has_node() {
    command -v npm >/dev/null && node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 11) ? 0 : 1)' 2>/dev/null
}

has_node || fail "Node 20.11 or later with npm is needed for the Node package (Debian 12's own is older): install it from https://nodejs.org."

packages() {
    # npm notes what it has installed; the lock file is younger only after a change.
    if [ ! -e "$package/node_modules/.package-lock.json" ] || [ "$package/package-lock.json" -nt "$package/node_modules/.package-lock.json" ]; then
        (cd "$package" && npm ci --no-audit --no-fund --loglevel=error)
        touch "$package/node_modules/.package-lock.json"
    fi
}

addon() {
    for ending in so dylib; do
        [ ! -e "$1/libscan_pipeline_node.$ending" ] || echo "$1/libscan_pipeline_node.$ending"
    done
}

case ${1:-} in
test)
    shift
    packages
    mkdir -p "$target/node-types"
    absolute=$(cd "$target" && pwd)
    # The targets of `cargo test`, and the addon beside them, which is compiled anew for its declarations.
    NAPI_TYPE_DEF_TMP_FOLDER=$absolute/node-types "$CARGO" build --workspace --lib --tests --examples --locked --quiet "$@"
    node "$package/scripts/build.mjs" --addon "$(addon "$absolute/debug")" --declared "$absolute/node-types/scan-pipeline-node" >/dev/null
    "$absolute/debug/examples/fixtures" "$absolute/fixtures"
    (cd "$package" && npm run --silent test:types)
    cd "$package"
    # A summary as short as that of cargo test; what fails is shown whole.
    SCAN_PIPELINE_FIXTURES="$absolute/fixtures" node --test --test-timeout=300000 --test-reporter=./scripts/reporter.mjs test/*.test.mjs
    ;;
bench)
    shift
    packages
    "$CARGO" build --release --locked --quiet --package scan-pipeline-node --features bench
    absolute=$(cd "$target" && pwd)
    # Apart: the addon of the benches has what the one of the tests and of users must not have.
    node "$package/scripts/build.mjs" --addon "$(addon "$absolute/release")" --to "$absolute/node/bench" >/dev/null
    exec node "$package/benches/scan.mjs" "$@"
    ;;
demo)
    packages
    (cd "$package" && npm run --silent build)
    exec node "$package/demo/server.mjs"
    ;;
pack)
    packages
    (cd "$package" && npm run --silent build -- --release && npm pack --silent)
    ls -l "$package"/scan-pipeline-*.tgz
    ;;
*)
    echo "usage: scripts/node.sh test [FLAGS] | bench [FLAGS] | demo | pack" >&2
    exit 2
    ;;
esac
