#!/bin/sh
# Tests the Python package: builds its native module, checks its types, and runs pytest.
#
#   scripts/python.sh [arguments for pytest]
#
# The module is built with the features in $FEATURES and together with everything that `cargo test --workspace` builds, so
# that nothing is compiled twice. QUICK=1 builds it alone, which takes less where nothing else was built. All that is made
# lies below the target directory.
set -eu

cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
venv=$target/python/venv
package=$target/python/package
fixtures=$target/python/fixtures
requirements=bindings-python/tests/requirements.txt

say() { echo "python: $*"; }

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    say "Python 3.11 or later is needed, and $python is $("$python" --version); name another with PYTHON=..." >&2
    exit 1
}

if [ -n "${QUICK:-}" ]; then
    "$cargo" build --package scan-pipeline-python --locked --quiet
    "$cargo" build --package scan-pipeline-tests --example fixtures --example postgres --locked --quiet
else
    # shellcheck disable=SC2086 # FEATURES is a list of words.
    "$cargo" build --workspace --lib --tests --example fixtures --example postgres ${FEATURES:-} --locked --quiet
fi

if ! cmp -s "$requirements" "$venv/requirements.txt"; then
    say "installing what the tests need into $venv"
    rm -rf "$venv"
    "$python" -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"
    cp "$requirements" "$venv/requirements.txt"
fi

rm -rf "$package"
mkdir -p "$package"
cp -R bindings-python/python/scan_pipeline "$package/"
rm -f "$package"/scan_pipeline/_native.*.so
cp "$target/debug/libscan_pipeline_python.so" "$package/scan_pipeline/_native.abi3.so"

if [ ! "$fixtures/expectations.json" -nt "$target/debug/examples/fixtures" ]; then
    rm -rf "$fixtures"
    "$target/debug/examples/fixtures" "$fixtures"
fi

export PYTHONPATH="$package" MYPYPATH="$package:bindings-python/tests:bindings-python/tests/apps"
export SCAN_PIPELINE_FIXTURES="$fixtures"
mypy() { "$venv/bin/mypy" --config-file bindings-python/pyproject.toml --cache-dir "$target/python/mypy" "$@"; }
mypy --package scan_pipeline
mypy bindings-python/tests/*.py bindings-python/tests/apps/*.py
"$venv/bin/stubtest" --mypy-config-file bindings-python/pyproject.toml scan_pipeline._native
"$venv/bin/python" -m pytest --config-file bindings-python/pyproject.toml --rootdir bindings-python -q bindings-python/tests "$@"
