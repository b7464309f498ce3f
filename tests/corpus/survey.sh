#!/usr/bin/env bash
# Scans the corpus that gather.sh made and counts what is not clean, by reason.
#
#   tests/corpus/survey.sh [CORPUS]        default: /tmp/scan-pipeline-corpus
#
# Two sets: "ordinary" has to stay clean (at most 0.2% unscannable, nothing infected, no error); "awkward" are the
# packages whose test data is encrypted, damaged or exotic on purpose, where ground_truth.py says what is true.
# The lines behind the counts are left in CORPUS/survey-*.txt: kind, path, layer, detail.
set -euo pipefail
corpus=${1:-/tmp/scan-pipeline-corpus}
here=$(cd "$(dirname "$0")" && pwd)
list=$corpus/files.txt
[ -s "$list" ] || { echo "$list is missing: run tests/corpus/gather.sh first" >&2; exit 1; }

grep -F -f "$here/awkward.txt" "$list" > "$corpus/awkward-files.txt" || true
grep -v -F -f "$here/awkward.txt" "$list" > "$corpus/ordinary-files.txt"

cd "$here/../.."
cargo build --quiet --release -p scan-pipeline-tests --example survey
for set in ordinary awkward; do
  "${CARGO_TARGET_DIR:-target}/release/examples/survey" scan-pipeline/definitions \
    < "$corpus/$set-files.txt" > /dev/null 2> "$corpus/survey-$set.txt"
  total=$(wc -l < "$corpus/$set-files.txt")
  bad=$(grep -v ' files$' "$corpus/survey-$set.txt" | cut -f2 | sort -u | wc -l)
  echo "$set: $total files, $bad not clean ($(awk "BEGIN { printf \"%.3f\", 100 * $bad / $total }")%), by first reason:"
  grep -v ' files$' "$corpus/survey-$set.txt" | sort -u -t$'\t' -k2,2 | cut -f1 | sort | uniq -c | sort -rn
done
wrong=$(grep -c -E $'^(infected|error)\t' "$corpus/survey-ordinary.txt" || true)
total=$(wc -l < "$corpus/ordinary-files.txt")
bad=$(grep -v ' files$' "$corpus/survey-ordinary.txt" | cut -f2 | sort -u | wc -l)
[ "$total" -ge 20000 ] || { echo "fewer than 20,000 ordinary files" >&2; exit 1; }
[ "$wrong" -eq 0 ] || { echo "$wrong ordinary files are infected or in error" >&2; exit 1; }
[ $((bad * 1000)) -le $((total * 2)) ] || { echo "more than 0.2% of the ordinary files are not clean" >&2; exit 1; }
echo "passed: $bad of $total ordinary files are unscannable"
