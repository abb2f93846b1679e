#!/usr/bin/env bash
# Makes README's pictures of the page: two screenshots and a recording of `cargo hops tour`.
#
#   tools/live/record.sh [FOLDER]    writes them to FOLDER, or else to docs/images
#
# Needs Chromium and chromedriver, and Python with Pillow: apt install chromium chromium-driver python3-pil
set -euo pipefail

cd "$(dirname "$0")/../.."
folder=${1:-docs/images}
python=''
# Debian's Python has Debian's Pillow, wherever another Python comes first.
for each in python3 /usr/bin/python3; do
    [ -n "$python" ] || ! "$each" -c 'import PIL' 2>/dev/null || python=$each
done
[ -n "$python" ] || { echo 'Pillow is missing: apt install python3-pil' >&2; exit 1; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Without a browser the test would leave itself out, and there would be no pictures.
CI=true HOPS_PICTURES=$scratch cargo test -p hops --test browser --locked -- --exact pictures::a_tour_is_recorded
mkdir -p "$folder"
"$python" tools/live/record.py "$scratch" "$folder"
