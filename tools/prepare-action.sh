#!/usr/bin/env bash
# Called by action.yml: a Python of the action's own with the locked dependencies, in the runner's temporary folder, and
# whether helm and kubectl are there. The job's own Python, its packages and its PATH stay as they are.
set -euo pipefail

HELM_MAJOR=4
KUBECTL_MINOR=28
MINIMUM='import sys; sys.exit(sys.version_info < (3, 10))'

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
lock=$here/requirements.lock
# One environment a job and version: the second step of a job finds what the first one made.
venv=$RUNNER_TEMP/helm-canary-$(cat "$lock" "$here/src/helm_canary/__init__.py" | cksum | tr -cd '0-9')

fail() {
    echo "::error title=helm-canary::$1 $2 $3"
    exit 3
}

python_in() {
    for name in "$1/bin/python" "$1/Scripts/python.exe"; do
        if [[ -x $name ]]; then
            echo "$name"
            return
        fi
    done
}

with_uv() {
    command -v uv >/dev/null || return 1
    # From here: the settings of the job's own project are none of ours.
    cd "$here"
    uv venv --quiet --no-project --python '>=3.10' "$1" || return 1
    uv pip install --quiet --no-build --require-hashes --python "$(python_in "$1")" --requirement "$lock"
}

with_pip() {
    local python='' pip
    for name in python3 python py; do
        if command -v "$name" >/dev/null && "$name" -c "$MINIMUM" 2>/dev/null; then
            python=$name
            break
        fi
    done
    [[ $python ]] || fail 'Neither uv nor Python 3.10 or newer is on PATH.' 'The program is written in Python.' \
        'Add actions/setup-python or astral-sh/setup-uv before this step.'
    "$python" -I -m venv --without-pip "$1"
    # A pip of its own takes seconds to make; the one that is there installs elsewhere as well, from version 22.3 on.
    pip=("$python" -I -m pip --python "$(python_in "$1")")
    if ! "${pip[@]}" --version >/dev/null 2>&1; then
        "$(python_in "$1")" -I -m ensurepip >/dev/null
        pip=("$(python_in "$1")" -I -m pip)
    fi
    PIP_DISABLE_PIP_VERSION_CHECK=1 "${pip[@]}" install --quiet --only-binary :all: --require-hashes --requirement "$lock"
}

install() {
    local new=$venv-$$
    with_uv "$new" || { rm -rf "$new" && with_pip "$new"; } ||
        fail 'The dependencies could not be installed.' 'The package index does not answer, or has other files than the lock.' \
            'Look at the lines above; a mirror is named with UV_DEFAULT_INDEX or PIP_INDEX_URL.'
    # The program is this checkout.
    "$(python_in "$new")" -I -c 'import pathlib, sys, sysconfig
pathlib.Path(sysconfig.get_paths()["purelib"], "helm_canary.pth").write_text(sys.argv[1] + "\n", encoding="utf-8")' "$here/src"
    mv "$new" "$venv"
}

# The answer is `missing` where this version cannot be used.
helm_is() { [[ $(helm version --template '{{.Version}}' 2>/dev/null) == v$HELM_MAJOR.* ]]; }

kubectl_is() {
    local version
    version=$(kubectl version --client --output json 2>/dev/null) || return 1
    [[ $version =~ \"minor\":\ *\"([0-9]+) ]] && ((BASH_REMATCH[1] >= KUBECTL_MINOR))
}

[[ -d $venv ]] || install
{
    echo "python=$(python_in "$venv")"
    echo "helm=$(helm_is && echo there || echo missing)"
    echo "kubectl=$(kubectl_is && echo there || echo missing)"
} >>"$GITHUB_OUTPUT"
