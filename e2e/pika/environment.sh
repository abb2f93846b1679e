#!/usr/bin/env bash
# Creates a Python environment, in which the tests run programs with pika or others, unless it is there already.
#
#   e2e/pika/environment.sh FOLDER [REQUIREMENTS]     the file with the packages (requirements.txt beside this script)
set -euo pipefail

requirements=${2:-$(dirname "${BASH_SOURCE[0]}")/requirements.txt}
! cmp -s "$requirements" "$1/requirements.txt" || exit 0
python3 -m venv --clear "$1"
"$1/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
# Last, so that an environment of which only a part was created is created again.
cp "$requirements" "$1/requirements.txt"
