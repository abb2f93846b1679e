#!/usr/bin/env bash
# Checks a release archive as its reader uses it: in a Debian root without Rust, without a network, and as a user without rights.
#
#   e2e/archive.sh ARCHIVE IMAGE    IMAGE has a Debian root, such as the one that e2e/rabbitmq.sh builds
set -euo pipefail
[ $# = 2 ] || { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2; }

archive=$(realpath "$1")
docker run --rm --network none --user 1000:1000 --env HOME=/tmp --volume "$archive:/archive.tar.gz:ro" --workdir /tmp \
    --entrypoint bash "$2" -euo pipefail -c '
        ! command -v cargo rustc || { echo "this root has Rust"; exit 1; }
        tar --extract --file /archive.tar.gz
        cd hops-*
        set -x
        ./hops up -d | tee up
        ./hops walk | tee walk
        ./hops service scale vipservice=2
        ./hops service update --force vipservice
        ./hops verify --read 50 --kill vipservice.1 | tee verify
        ./hops service nonsense 2>&1 | tee wrong || true
        ./hops --help | tee help
        ./hops down --all
        set +x
        grep -q "^answered 200" walk
        grep -q "LOST 0" verify
        # What it says is what can be typed here.
        grep -q "    ./hops walk" up
        ! grep "cargo" up walk verify wrong help
        ! pgrep -l "accountservice|vipservice|configserver|devbroker" || { echo "these are still there"; exit 1; }'
echo "the archive runs where there is no Rust"
