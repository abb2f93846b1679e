#!/usr/bin/env bash
# Checks an offline kit as its reader uses it: in a Debian root with git, curl, a C linker and Rust, without a network, and as a user
# without rights.
#
#   e2e/offline-kit.sh KIT    needs Docker Engine; the first time it makes the root, which needs mmdebstrap, a network and root
set -euo pipefail
[ $# = 1 ] || { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2; }

image=hops-newcomer
kit=$(realpath "$1")
if ! docker image inspect "$image" >/dev/null 2>&1; then
    mmdebstrap --quiet --mode=root --variant=essential --include=gcc,libc6-dev,git,curl,procps trixie - | docker import - "$image" >/dev/null
fi
docker run --rm --network none --user 1000:1000 --env HOME=/tmp --env CARGO_PROFILE_DEV_DEBUG=0 --env PATH=/rust/bin:/usr/bin \
    --volume "$kit:/kit.tar.gz:ro" --volume "$(rustc --print sysroot):/rust:ro" --workdir /tmp --entrypoint bash "$image" -euo pipefail -c '
        tar --extract --file /kit.tar.gz
        cd hops-*/hops
        set -x
        cargo hops up -d
        cargo hops walk | tee ../walk
        # What the chapters do at their end, and what is done between two groups.
        echo "offer_text: a mistake" >> config-repo/vipservice.yml
        git checkout -q config-repo
        cargo hops down --all
        git checkout -q . && git clean -fdxq -e target -e .secrets
        [ -z "$(git status --short)" ]
        # Another checkout beside it.
        git clone --quiet . ../hops-2
        cd ../hops-2
        cargo metadata --locked --format-version 1 >/dev/null
        set +x
        grep -q "^answered 200" ../walk
        ! pgrep -l "accountservice|vipservice|configserver|devbroker" || { echo "these are still there"; exit 1; }'
echo "the offline kit builds and runs where there is no network"
