#!/bin/sh
# Builds the Python package's wheel, and proves it: installs it in a clean environment outside of the checkout and runs the
# first example of its README there.
#
#   scripts/wheel.sh [options of maturin, such as --features s3]
#
# The wheel is left in target/wheels. PROFILE=dev takes less time, for trying out the script.
set -eu

cd "$(dirname "$0")/.."
root=$PWD
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
tools=$target/python/maturin
maturin=$(sed -n 's/^maturin==//p' bindings-python/tests/requirements.txt)
profile=${PROFILE:-release}

say() { echo "wheel: $*"; }

if [ ! -x "$tools/bin/maturin" ] || [ "$("$tools/bin/maturin" --version)" != "maturin $maturin" ]; then
    say "installing maturin $maturin into $tools"
    rm -rf "$tools"
    "${PYTHON:-python3}" -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check "maturin==$maturin"
fi
rm -f "$target"/wheels/scan_pipeline-*.whl
"$tools/bin/maturin" build --quiet --locked --profile "$profile" --manifest-path bindings-python/Cargo.toml --out "$target/wheels" "$@"
wheel=$(ls "$target"/wheels/scan_pipeline-*.whl)

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check "$wheel"
# The example as it stands, but for definitions that need no download.
sed -n '/^```python$/,/^```$/p' bindings-python/README.md | sed '1d;/^```$/,$d' |
    sed "s|/var/lib/clamav|$root/scan-pipeline/definitions|" >"$place/example.py"
grep -q SyncScanner "$place/example.py"
echo "harmless content" >"$place/upload.zip"
said=$(cd "$place" && env -u PYTHONPATH "$place/venv/bin/python" -W error example.py)
if [ "$said" != clean ]; then
    say "the first example of the README says: $said" >&2
    exit 1
fi
say "$(basename "$wheel") ($(du -h "$wheel" | cut -f1)) is in $target/wheels, and runs in a clean environment"
