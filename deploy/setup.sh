#!/usr/bin/env bash
# Brings a checkout from any state to "ready": `setup.sh run` for the product, `setup.sh dev` for tests and checks too.
# Safe to repeat and to run twice at once; what is already in place costs a fraction of a second.
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
    else die "cannot run '$*' without root; install it by hand and repeat"
    fi
}

install_package() {
    say "installing the Debian package $1"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >/dev/null 2>&1 && return
    as_root apt-get update -qq >/dev/null || die "apt-get update failed; install $1 by hand and repeat"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >/dev/null \
        || die "could not install $1; install it by hand and repeat"
}

find_python() {
    for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3; do
        if [ -n "$candidate" ] && command -v "$candidate" >/dev/null \
            && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    die "Python 3.11 or newer is needed and was not found (set PYTHON=/path/to/python3)"
}

# make_venv DIR: a working virtual environment in DIR, rebuilt if what is there does not run.
make_venv() {
    # An environment knows where it was made: in a copied checkout it would run the original's code.
    if [ "$(cat "$1/.made-in" 2>/dev/null)" = "$PWD" ] && "$1/bin/python" -m pip --version >/dev/null 2>&1; then return; fi
    python=$(find_python)
    "$python" -c 'import ensurepip' 2>/dev/null || install_package python3-venv
    say "creating $1 with $("$python" --version)"
    rm -rf "$1"
    "$python" -m venv "$1"
    pwd >"$1/.made-in"
}

# install DIR LOCK: exactly what LOCK pins, checked by hash; skipped while LOCK has not changed.
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

# Debian's redis-server package would start a service; redis-tools carries the same binary and starts nothing.
find_redis() {
    if command -v redis-server >/dev/null || [ -x .venv/bin/redis-server ]; then return; fi
    [ -x /usr/bin/redis-check-rdb ] || install_package redis-tools
    ln -sf /usr/bin/redis-check-rdb .venv/bin/redis-server
}

find_node() {
    if command -v node >/dev/null || [ -x .venv/bin/node ]; then return; fi
    install .venv deploy/requirements/node.txt
}

# Tests make certificates with it.
find_openssl() {
    command -v openssl >/dev/null || install_package openssl
}

# The product, and the tests' tools with it once they have been wanted. What is there but does not run is made anew.
prepare() {
    make_venv .venv
    lock=deploy/requirements/runtime.txt
    if [ "$want" = dev ] || [ -f .venv/.installed-dev.txt ]; then lock=deploy/requirements/dev.txt; fi
    install .venv "$lock"
    install_checkout
}
prepare
if ! .venv/bin/image-gateway --version >/dev/null 2>&1; then
    say "what is in .venv does not run; making it anew"
    rm -rf .venv
    prepare
fi
if [ "$want" = run ]; then exit; fi
make_venv .venv-runapi-old
install .venv-runapi-old deploy/requirements/runapi-old.txt
find_redis
find_node
find_openssl
