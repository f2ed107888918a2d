#!/usr/bin/env bash
# Makes this machine and this checkout ready, and does nothing, quickly, when they are.
#
#   tools/setup.sh build     Debian packages to build with, and .venv
#   tools/setup.sh develop   also what the tests and checks need, and .venv-peers
#
# PYTHON names the interpreter that the environments are made of; default python3.
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
make_environment() { # DIRECTORY REQUIREMENTS
    local made_from
    made_from=$(pwd && "$python" -c 'import sys; print(sys.base_prefix, sys.version)' && cat "$2")
    [ "$(cat "$1/ready" 2>/dev/null)" != "$made_from" ] || return 0

    echo "setup: making $1 from $2"
    "$python" -m venv --clear "$1"
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check -r "$2"
    printf '%s\n' "$made_from" >"$1/ready"
}

install_packages
make_environment .venv tests/requirements.txt
for packages in .venv/lib/python3*/site-packages; do
    pwd >"$packages/axon-checkout.pth" # so that .venv/bin/python finds service_clients from anywhere
done
if [ "$what" = develop ]; then
    make_environment .venv-peers tests/requirements-peers.txt
fi
