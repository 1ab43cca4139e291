#!/usr/bin/env bash
# A Python program of a test in a virtual environment of its own, beside the other packages. Prints the environment's folder.
#   python-tool.sh triton | schemathesis
set -euo pipefail
cd "$(dirname "$0")/../.."

case $1 in
  triton) name=tritonclient-2.73.0 packages=('tritonclient[http]==2.73.0' 'numpy>=1.26') ;;
  schemathesis) name=schemathesis-4.32.5 packages=('schemathesis==4.32.5') ;;
  *) echo "python-tool.sh: expected triton or schemathesis, got $1" >&2 && exit 2 ;;
esac
venv=node_modules/.cache/turnout/$name
if [ ! -e "$venv/complete" ]; then
  python3 -m venv --clear "$venv" >&2
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${packages[@]}" >&2
  touch "$venv/complete"
fi
echo "$PWD/$venv"
