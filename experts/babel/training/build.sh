#!/usr/bin/env bash
# The babel package from nothing: text, both trainings (about an hour each on one core, side by side), evaluation, export.
# Needs Debian 12 with root. Usage: build.sh <work folder>
set -euo pipefail
work=${1:?usage: build.sh <work folder>}
here=$(cd "$(dirname "$0")" && pwd)
apt-get install -y --no-install-recommends python3-torch libopenblas0-pthread python3-onnx python3-numpy \
  bible-kjv bible-kjv-text debian-reference-de debian-reference-fr debian-reference-ja \
  manpages-de manpages-fr manpages-ja libpython3.11-stdlib libc6-dev linux-libc-dev
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
python=/usr/bin/python3
"$python" "$here/prepare.py" --work "$work"
"$python" "$here/train.py" --work "$work" --kind dense --steps 4000 >"$work/dense.log" &
"$python" "$here/train.py" --work "$work" --kind moe --steps 4000 | tee "$work/moe.log"
wait
"$python" "$here/evaluate.py" --work "$work"
"$python" "$here/export.py" --work "$work"
"$python" "$here/picture.py"
