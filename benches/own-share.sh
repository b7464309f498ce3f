#!/bin/sh
# Tells which share of a scan thread's processor time is spent in our own code, and where, by sampling.
# Far sharper than the difference of two times on a busy machine, but blind to what our callbacks cost libclamav.
# Needs `perf` (Debian: linux-perf), which has to be allowed: run as root, or set kernel.perf_event_paranoid to 1.
set -eu
cd "$(dirname "$0")/.."
command -v perf >/dev/null || { echo "own-share: perf is not installed (apt install linux-perf)" >&2; exit 1; }

# Frame pointers, so that a sample in memcpy or in a decoder is counted for the function of ours that called it.
export RUSTFLAGS="-C force-frame-pointers=yes"
CARGO_TARGET_DIR=target/frame-pointers cargo build --release -p scan-pipeline-benches --bin side-by-side
data=$(mktemp)
trap 'rm -f "$data"' EXIT
perf record -q -e cpu-clock -F 1499 --call-graph fp -o "$data" \
    target/frame-pointers/release/side-by-side --profile "$@"

# A sample is ours when, going up from where it was taken, a frame of ours comes before one of libclamav.
perf script -i "$data" -F comm,ip,sym,dso 2>/dev/null | awk '
    function settle() {
        if (scanning) { all++; if (ours != "") { own++; by[ours]++ } }
        scanning = 0; ours = ""; decided = 0
    }
    /^$/ { settle(); next }
    /^[^ \t]/ { scanning = ($1 ~ /^clamav-scan/); next }
    scanning && !decided {
        if ($0 ~ /libclamav/) { decided = 1; next }
        if ($0 !~ /side-by-side/) next
        if (ours == "") ours = "elsewhere"
        count = split("examine_bzip2 rar::examine zip::examine tar::examine opaque::examine input::read crc32 sha2 " \
                      "on_file_inspection on_post_scan on_pre_cache on_meta crossbeam scan_once scan::run", names, " ")
        for (n = 1; n <= count; n++) if (ours == "elsewhere" && index($0, names[n])) ours = names[n]
    }
    END {
        settle()
        if (!all) { print "own-share: no samples of a scan thread" > "/dev/stderr"; exit 1 }
        printf "%d samples, %.2f%% in our own code:\n", all, 100 * own / all
        for (name in by) printf "  %-20s %.3f%%\n", name, 100 * by[name] / all | "sort -k2 -nr"
    }'
