#!/usr/bin/env bash
# Triton's own Python client in a virtual environment beside the other packages. Prints its python.
set -euo pipefail
cd "$(dirname "$0")/../../.."

venv=node_modules/.cache/turnout/tritonclient-2.73.0
if [ ! -e "$venv/complete" ]; then
  python3 -m venv --clear "$venv" >&2
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check 'tritonclient[http]==2.73.0' 'numpy>=1.26' >&2
  touch "$venv/complete"
fi
echo "$PWD/$venv/bin/python"
