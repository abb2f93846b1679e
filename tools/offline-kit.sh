#!/usr/bin/env bash
# Makes the offline kit: the sources and all that cargo would download, for a class without a network.
#
#   tools/offline-kit.sh [FOLDER]    write target/offline-kit/hops-VERSION-offline.tar.gz, or into FOLDER
#
# Its folder `hops` is a clone of the last commit, without the earlier ones. The dependencies and cargo's settings are beside it, where
# cargo finds them for every checkout below: so git sees no change, and `git clean` leaves them alone.
set -euo pipefail

case "${1:-}" in -*) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;; esac
cd "$(dirname "$0")/.."
folder=${1:-${CARGO_TARGET_DIR:-target}/offline-kit}
value_of() { sed -n "/^\[workspace.package\]/,/^\[/s/^$1 = \"\(.*\)\"/\1/p" Cargo.toml; }

name=hops-$(value_of version)-offline
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
kit=$scratch/$name
mkdir -p "$kit/.cargo" "$folder"
git clone --quiet --depth 1 "file://$PWD" "$kit/hops"
git -C "$kit/hops" checkout --quiet -B main
git -C "$kit/hops" remote set-url origin "$(value_of repository)"
# What it prints are settings with the name of the temporary folder.
cargo vendor --quiet --locked --manifest-path "$kit/hops/Cargo.toml" "$kit/vendor" >"$scratch/settings"
cat >"$kit/.cargo/config.toml" <<'END'
# Everything that cargo would download is in the folder vendor.
[source.crates-io]
replace-with = "vendor"

[source.vendor]
directory = "vendor"

[net]
offline = true
END
cat >"$kit/README.txt" <<END
Hops $(value_of version): a small system of microservices that talk through a message broker, for machines without a network.

You need Linux, git, curl, a C linker, and Rust $(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml). Then, in the folder hops beside this file:

    cargo hops up -d            build and start everything, which takes some minutes the first time
    cargo hops walk             read the VIP's account, and follow the message
    cargo hops down --all       stop everything, and remove its data

The chapters are in hops/docs/walkthrough. For another checkout, type \`git clone hops hops-2\` in this folder.
END
tar --create --gzip --file "$folder/$name.tar.gz" --directory "$scratch" --owner=0 --group=0 "$name"
du -h "$folder/$name.tar.gz"
