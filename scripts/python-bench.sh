#!/bin/sh
# Measures the Python package in release: CPU a file beside the same call from Rust (at most 3% more) and beside PyPI's
# `clamd` with the daemon, and the memory of forked workers with a database of some 500 MB (under 20 MiB of its own each).
#
#   scripts/python-bench.sh [--quick]
#
# It ends with 1 where a bound is not kept. Definitions and files are those of the other benches, below the target directory.
set -eu

cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
venv=$target/python/venv
package=$target/python/bench
fixtures=$target/python/fixtures
requirements=bindings-python/tests/requirements.txt
rounds=14 scans=3000
[ "${1:-}" != --quick ] || rounds=3 scans=300

say() { echo "python-bench: $*"; }

# No other package than the one that is put together here has this feature.
"$cargo" build --release --package scan-pipeline-python --features bench --locked --quiet
"$cargo" build --package scan-pipeline-tests --example fixtures --locked --quiet
[ -e "$fixtures/expectations.json" ] || "$target/debug/examples/fixtures" "$fixtures"
# The definitions and the files to scan.
if [ ! -e "$target/bench-files/complete.txt" ]; then
    "$cargo" run --release --package scan-pipeline-benches --bin side-by-side --locked --quiet -- --quick
fi
"$cargo" run --release --package scan-pipeline-benches --bin generate-definitions --locked --quiet -- "$target/bench-definitions"

if ! cmp -s "$requirements" "$venv/requirements.txt"; then
    say "installing what the benches need into $venv"
    rm -rf "$venv"
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"
    cp "$requirements" "$venv/requirements.txt"
fi
rm -rf "$package"
mkdir -p "$package"
cp -R bindings-python/python/scan_pipeline "$package/"
rm -f "$package"/scan_pipeline/_native.*.so
cp "$target/release/libscan_pipeline_python.so" "$package/scan_pipeline/_native.abi3.so"
export PYTHONPATH="$package"

clamd=$(command -v clamd || true)
# As scripts/servers.sh unpacks it.
unpacked=$target/servers/clamd/usr/sbin/clamd
if [ -z "$clamd" ] && [ -x "$unpacked" ]; then clamd=$unpacked; fi
failed=0
"$venv/bin/python" bindings-python/benches/scan.py --definitions "$target/bench-definitions" \
    --files "$target/bench-files" --every 4 --rounds "$rounds" --most 1.03 ${clamd:+--clamd "$clamd"} || failed=1
"$venv/bin/python" bindings-python/benches/fork.py --definitions scan-pipeline/definitions --scans "$scans" \
    --files "$fixtures/infected-letter.tar.gz" "$fixtures/infected-two-members.zip" || failed=1
exit "$failed"
