#!/bin/sh
# Installs what scan-pipeline needs on Debian and Ubuntu: only what is missing, and saying so first.
#
#   scripts/setup.sh build    what `make demo` needs: libclamav with its header, a C compiler, pkg-config
#   scripts/setup.sh test     and the programs that the tests call, Debian's files for testing ClamAV, and the servers
#                             that the tests talk to (scripts/servers.sh)
#   scripts/setup.sh check    and rustfmt, clippy and cargo-deny
#
# Quiet when nothing is missing. Rust itself is for you to install (https://rustup.rs), and so is Node for the tests
# (https://nodejs.org).
set -eu

LIBCLAMAV=1.4.0
CARGO_DENY=0.20.2
BUILD_PACKAGES="gcc libc6-dev libclamav-dev make pkg-config"
TEST_PACKAGES="bzip2 ca-certificates chromium clamav-testfiles maven openssl p7zip-full postgresql python3 python3-venv qpdf redis-tools util-linux valgrind xz-utils"
CHECK_PACKAGES="git" # cargo-deny fetches its database with it

level=${1:-build}
case $level in
build) packages=$BUILD_PACKAGES ;;
test) packages="$BUILD_PACKAGES $TEST_PACKAGES" ;;
check) packages="$BUILD_PACKAGES $TEST_PACKAGES $CHECK_PACKAGES" ;;
*)
    echo "usage: scripts/setup.sh [build|test|check]" >&2
    exit 2
    ;;
esac
cd "$(dirname "$0")/.."

say() { echo "setup: $*"; }
fail() {
    echo "setup: $*" >&2
    exit 1
}

# A package counts as there when dpkg says so: programs of the same name may come from elsewhere.
missing_of() {
    for package in "$@"; do
        case $(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true) in
        installed) ;;
        *) echo "$package" ;;
        esac
    done
}

has_libclamav() { pkg-config --atleast-version="$LIBCLAMAV" libclamav 2>/dev/null; }

# The tests start a PostgreSQL of their own: the package shall make no database and start no service.
no_cluster() {
    if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
        $as_root mkdir -p /etc/postgresql-common/createcluster.d
        echo "create_main_cluster = false" | $as_root tee /etc/postgresql-common/createcluster.d/scan-pipeline.conf >/dev/null
    fi
}

apt_packages() {
    # shellcheck disable=SC2086 # A list of words.
    missing=$(missing_of $packages | tr '\n' ' ')
    missing=${missing% }
    if [ -n "$missing" ]; then
        if [ "$(id -u)" -eq 0 ]; then
            as_root=
        elif command -v sudo >/dev/null; then
            as_root=sudo
        else
            fail "these packages are missing, and installing them takes root or sudo: $missing"
        fi
        say "installing with apt-get${as_root:+ and sudo}, without recommended packages: $missing"
        $as_root apt-get update --quiet --quiet || fail "apt-get update failed; see what it said above."
        case " $missing " in *" postgresql "*) no_cluster ;; esac
        # shellcheck disable=SC2086 # A list of words, as well.
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --quiet --no-install-recommends $missing >/dev/null ||
            fail "apt-get could not install all of: $missing (on Ubuntu they need the component universe)."
    fi
    has_libclamav || fail "libclamav $LIBCLAMAV or later is needed, and this system's packages hold" \
        "$(pkg-config --modversion libclamav 2>/dev/null || echo none that pkg-config finds); Debian 12 with its updates has it."
}

# Elsewhere we name the packages and leave the installing to you.
other_system() {
    id=
    if [ "$(uname -s)" = Darwin ]; then
        id=macos
    elif [ -r "$os_release" ]; then
        # shellcheck source=/dev/null
        id=$(. "$os_release" && echo "${ID:-} ${ID_LIKE:-}")
    fi
    case " $id " in
    *" fedora "*) how="dnf install gcc clamav-devel pkgconf-pkg-config" also="chromium p7zip p7zip-plugins postgresql-server qpdf python3 redis valgrind" ;;
    *" alpine "*) how="apk add gcc musl-dev clamav-dev pkgconf" also="7zip chromium postgresql qpdf python3 redis valgrind" ;;
    *" macos "*) how="brew install clamav pkgconf" also="chromium p7zip postgresql qpdf python3 redis" ;;
    *) how="your package manager (with its header, a C compiler and pkg-config)" also="7z, Chromium, PostgreSQL, qpdf, python3, Redis and valgrind" ;;
    esac
    if [ "$level" = build ]; then
        tests=
    else
        tests="; the tests also need $also, and the files of Debian's clamav-testfiles, which have no package here"
    fi
    has_libclamav ||
        fail "only Debian and Ubuntu are set up by this script: install libclamav $LIBCLAMAV or later with $how, then run this again$tests."
    say "this is neither Debian nor Ubuntu, but pkg-config finds libclamav $(pkg-config --modversion libclamav): going on${tests}."
}

rust() {
    command -v cargo >/dev/null || fail "cargo is missing: install Rust from https://rustup.rs, then run this again."
    wanted=$(sed -n 's/^rust-version = "\([0-9.]*\)"$/\1/p' Cargo.toml ./*/Cargo.toml | sort -t. -k1,1n -k2,2n | tail -n 1)
    found=$(rustc --version | cut -d' ' -f2)
    [ "$(printf '%s\n' "$wanted" "$found" | sort -t. -k1,1n -k2,2n | head -n 1)" = "$wanted" ] ||
        fail "Rust $wanted or later is needed and this is $found: run \`rustup update stable\`, or install Rust from https://rustup.rs."
}

# Debian 12's own is older than what the Node package runs on.
node_with_npm() {
    command -v npm >/dev/null &&
        node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 11) ? 0 : 1)' 2>/dev/null ||
        fail "Node 20.11 or later with npm is needed for the tests of the Node package: install it from https://nodejs.org, then run this again."
}

rust_tools() {
    for tool in fmt:rustfmt clippy:clippy; do
        cargo "${tool%%:*}" --version >/dev/null 2>&1 && continue
        command -v rustup >/dev/null || fail "cargo ${tool%%:*} is missing: install the package of your system that holds it."
        say "adding ${tool##*:} with rustup"
        rustup component add "${tool##*:}"
    done
    if version=$(cargo deny --version 2>/dev/null); then
        [ "$version" = "cargo-deny $CARGO_DENY" ] || say "using the installed $version; deny.toml is written for $CARGO_DENY"
    else
        say "building cargo-deny $CARGO_DENY with cargo install, once; this takes a few minutes"
        # Its release profile is made for speed at run time, which a check of a second does not need: a third of the time.
        env -u CARGO_TARGET_DIR CARGO_PROFILE_RELEASE_LTO=false CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
            cargo install --quiet --locked "cargo-deny@$CARGO_DENY"
    fi
}

rust
os_release=${OS_RELEASE:-/etc/os-release}
if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null &&
    grep -qE '^ID(_LIKE)?=.*(debian|ubuntu)' "$os_release" 2>/dev/null; then
    apt_packages
else
    other_system
fi
if [ "$level" != build ]; then node_with_npm; fi
if [ "$level" = check ]; then rust_tools; fi
if [ "$level" != build ]; then scripts/servers.sh; fi
