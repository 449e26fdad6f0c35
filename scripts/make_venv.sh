#!/usr/bin/env bash
# Makes the virtual environment $1 from requirements.lock, with uv where it is installed and with pip elsewhere.
set -euo pipefail
venv=$1

python=
for candidate in python3 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "No Python 3.11, 3.12 or 3.13 found on the PATH. Install one of them and run this again." >&2
    exit 2
fi

echo "Setting up $venv with $("$python" --version) (once; some minutes)."
if command -v uv >/dev/null 2>&1; then
    [ -x "$venv/bin/python" ] || uv venv --quiet --python "$(command -v "$python")" "$venv"
    uv pip install --quiet --python "$venv/bin/python" --require-hashes -r requirements.lock
    uv pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation -e .
else
    [ -x "$venv/bin/pip" ] || "$python" -m venv "$venv"
    # The lock is complete; --no-deps also keeps older pips from stumbling over extras (`gql[requests]`), which a lock has not.
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
fi
