#!/bin/sh
# Make .venv with the project (editable) and its development dependencies; called by the Makefile when pyproject.toml is
# newer than .venv/ready. Works with uv, or with Python's own venv and pip; installs python3-venv on Debian when root.
set -eu
cd "$(dirname "$0")/.."
VENV=.venv
MINIMUM='sys.version_info >= (3, 10)'

say() { echo "setup: $*" >&2; }

new_enough() { "$1" -c "import sys; sys.exit(not ($MINIMUM))" 2>/dev/null; }

complete() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

find_python() {
    for candidate in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3.10 python3 python}; do
        if new_enough "$candidate" && complete "$candidate"; then
            echo "$candidate"
            return 0
        fi
    done
    return 1
}

# Debian ships Python without what makes environments.
install_python() {
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say 'installing python3 and python3-venv'
        export DEBIAN_FRONTEND=noninteractive
        apt-get install -y --no-install-recommends python3 python3-venv >&2 ||
            { apt-get update >&2 && apt-get install -y --no-install-recommends python3 python3-venv >&2; }
    fi
}

with_uv() {
    command -v uv >/dev/null || return 1
    say "making $VENV with uv"
    { new_enough "$VENV/bin/python" || uv venv --clear --python "${PYTHON:->=3.10}" "$VENV"; } &&
        uv pip install --python "$VENV/bin/python" --editable . --group dev
}

with_pip() {
    if ! { new_enough "$VENV/bin/python" && "$VENV/bin/python" -m pip --version >/dev/null 2>&1; }; then
        python=$(find_python) || { install_python && python=$(find_python); } || {
            say 'no Python 3.10 or newer with the modules venv and ensurepip was found.'
            say 'On Debian or Ubuntu: apt-get install python3-venv. Elsewhere: install Python from your system, or uv.'
            exit 1
        }
        say "making $VENV with $python"
        "$python" -m venv --clear "$VENV"
    fi
    # Dependency groups came with pip 25.1.
    "$VENV/bin/python" -m pip install --quiet --upgrade 'pip>=25.1'
    "$VENV/bin/python" -m pip install --quiet --editable . --group dev
}

with_uv || with_pip
touch "$VENV/ready"
