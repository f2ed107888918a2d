#!/usr/bin/env bash
# Makes this machine and this checkout ready, and does nothing, quickly, when they are.
#
#   tools/setup.sh build     Debian packages to build with, and .venv
#   tools/setup.sh develop   also what the tests and checks need, and .venv-peers
#   tools/setup.sh autobahn  as build, and .venv-autobahn, which needs a Python 2.7
#
# PYTHON names the interpreter that the environments are made of, default python3; PYTHON2 that of .venv-autobahn,
# default python2.7 from PATH or from pyenv.
set -euo pipefail
cd "$(dirname "$0")/.."
what=$1
python=${PYTHON:-python3}

install_packages() {
    local wanted missing as_root=()
    wanted=$(awk -v what="$what" '$1 == "build" || $1 == what { print $2 }' tools/debian-packages.txt | sort)
    if ! command -v dpkg-query >/dev/null; then
        printf 'setup: this is no Debian; going on as if what these hold were here:\n%s\n' "$wanted" >&2
        return
    fi
    mapfile -t missing < <(comm -23 <(echo "$wanted") \
        <(dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p' | sort))
    [ ${#missing[@]} -gt 0 ] || return 0

    echo "setup: missing Debian packages: ${missing[*]}"
    if [ "$(id -u)" != 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "setup: install them as root: apt-get install ${missing[*]}" >&2
            exit 1
        fi
        as_root=(sudo)
    fi
    "${as_root[@]}" apt-get update -q
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "${missing[@]}"
}

# A virtual environment with what a requirements file pins. Its file `ready` says what it was made from and is
# written last: after an interruption, a changed pin, another Python or a moved checkout it is made anew.
make_environment() { # DIRECTORY REQUIREMENTS [MODULE [PYTHON]]
    local made_from module=${3:-venv} python=${4:-$python}
    made_from=$(pwd && "$python" -c 'import sys; print((getattr(sys, "base_prefix", sys.prefix), sys.version))' && cat "$2")
    [ "$(cat "$1/ready" 2>/dev/null)" != "$made_from" ] || return 0

    echo "setup: making $1 from $2"
    "$python" -m "$module" --clear "$1"
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check -r "$2"
    printf '%s\n' "$made_from" >"$1/ready"
}

# A Python 2.7 that can make environments: it has no venv of its own. A shim of pyenv's that leads nowhere is no Python.
find_python2() {
    local candidate
    for candidate in ${PYTHON2:-python2.7 "$(pyenv root 2>/dev/null)"/versions/2.7*/bin/python2.7}; do
        if "$candidate" -c 'import sys, virtualenv; sys.exit(sys.version_info[:2] != (2, 7))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "setup: the Autobahn test suite needs a Python 2.7 with the module virtualenv; name one with PYTHON2=" >&2
    return 1
}

install_packages
make_environment .venv tests/requirements.txt
for packages in .venv/lib/python3*/site-packages; do
    pwd >"$packages/axon-checkout.pth" # so that .venv/bin/python finds service_clients from anywhere
done
if [ "$what" = develop ]; then
    make_environment .venv-peers tests/requirements-peers.txt
fi
if [ "$what" = autobahn ]; then
    python2=$(find_python2)
    make_environment .venv-autobahn tests/requirements-autobahn.txt virtualenv "$python2"
fi
