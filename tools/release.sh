#!/usr/bin/env bash
# Makes the release archive: the whole system for Linux, for machines without Rust.
#
#   tools/release.sh [FOLDER]           write target/release-archive/hops-VERSION-MACHINE-linux.tar.gz, or into FOLDER
#   tools/release.sh --debug [FOLDER]   the same with the binaries of a development build, which need this machine's C library
#
# The binaries contain the C library, as those of the images do, so they run on any distribution.
# `./hops` finds its programs in `bin/` beside it, and then calls no cargo.
set -euo pipefail

profile=release
if [ "${1:-}" = --debug ]; then
    profile=debug
    shift
fi
case "${1:-}" in -*) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;; esac
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
folder=${1:-$target/release-archive}
programs=(accountservice vipservice configserver devbroker)

packages=(--package=hops)
for program in "${programs[@]}"; do packages+=("--package=$program"); done
if [ "$profile" = release ]; then
    triple=$(uname -m)-unknown-linux-gnu
    RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --locked --target "$triple" "${packages[@]}" --bins
    built=$target/$triple/release
else
    # As `cargo hops` builds, so that there may be nothing left to build.
    cargo build --locked --workspace --exclude=examples --bins
    built=$target/debug
fi

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
name=hops-$version-$(uname -m)-linux
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/$name/bin" "$folder"
cp "$built/hops" "$scratch/$name/"
for program in "${programs[@]}"; do cp "$built/$program" "$scratch/$name/bin/"; done
[ "$profile" = release ] || strip --strip-debug "$scratch/$name/hops" "$scratch/$name"/bin/*
# Only what is committed, and nothing that somebody has put beside it.
git ls-files -z docker-compose.yml config-repo rabbitmq.conf rabbitmq-users.json LICENSE-APACHE LICENSE-MIT |
    xargs -0 cp --parents --target-directory="$scratch/$name"
cat >"$scratch/$name/README.txt" <<END
Hops $version: a small system of microservices that talk through a message broker.

    ./hops up -d                start everything: the services, and a small broker
    ./hops walk                 read the VIP's account, and follow the message
    ./hops live --open          see the messages move, on a page in your browser
    ./hops verify --read 50     read fifty times, and match each read with its offer
    ./hops down --all           stop everything, and remove its data

The chapters type \`cargo hops\`: in this folder it is \`./hops\`.
The source and the chapters: $(sed -n '/^\[workspace.package\]/,/^\[/s/^repository = "\(.*\)"/\1/p' Cargo.toml)
END
tar --create --gzip --file "$folder/$name.tar.gz" --directory "$scratch" --owner=0 --group=0 "$name"
du -h "$folder/$name.tar.gz"
