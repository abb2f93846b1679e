#!/usr/bin/env bash
# Builds the images of the services and of tools/forwarder, whose image is `edge`.
#
#   tools/stack/images.sh           in Docker
#   tools/stack/images.sh --local   from binaries that cargo builds here
#   tools/stack/images.sh --any     in Docker if the image of Rust can be pulled, otherwise from binaries
#
#   HOPS_IMAGES   beginning of the images' names (localhost/hops)
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."
. tools/stack/machine.sh
# With attestations, a rebuilt image would get another id even if its contents are the same.
export BUILDX_NO_DEFAULT_ATTESTATIONS=1

main() {
    local name
    case "$*" in
        '') build_in_docker ;;
        --local) build_local ;;
        --any)
            echo "not all images $images/* are built yet"
            if has_rust; then build_in_docker
            elif command -v cargo >/dev/null; then echo "$rust cannot be pulled, so cargo builds the images here"; build_local
            else fail "$rust cannot be pulled, and cargo is missing: install Rust (https://rustup.rs), or copy the images from another machine (docker save, docker load)"
            fi ;;
        *) fail "build takes --local, but got '$*'" ;;
    esac
    for name in "${services[@]}" edge; do
        docker image inspect --format "{{.Size}}" "$images/$name" |
            awk -v name="$images/$name" '{ printf "%-32s %5.1f MB\n", name, $1 / 1000000 }'
    done
}

rust=$(sed -n 's/^ARG RUST=\(.*\)/rust:\1-slim-bookworm/p' Dockerfile)
has_rust() { docker image inspect "$rust" >/dev/null 2>&1 || docker pull --quiet "$rust" >/dev/null 2>&1; }

build_in_docker() {
    local name
    has_rust || fail "$rust does not exist and cannot be pulled: ./deploy.sh build --local builds with this machine's cargo"
    for name in "${services[@]}" edge; do
        docker build --target "$name" --tag "$images/$name" --build-arg "REVISION=$(revision "$name")" \
            --build-arg "FEATURES=$(features)" . || fail "docker could not build $images/$name; its reason is above"
    done
}

# Builds the same images: cargo's binaries replace the first stages of the Dockerfile, and the lines after `# --- images` stay.
build_local() {
    local target name packages=()
    [ "$(uname -s)" = Linux ] || fail 'build --local works on Linux only: ./deploy.sh build builds in Docker'
    command -v cargo >/dev/null || fail 'build --local needs Rust: https://rustup.rs'
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    cc -static -x c -o "$scratch/static" - 2>/dev/null <<<'int main(void) { return 0; }' ||
        fail 'build --local needs a C linker and a static C library: apt-get install gcc libc6-dev, or dnf install gcc glibc-static'
    target=$(uname -m)-unknown-linux-gnu
    for name in "${services[@]}" forwarder; do packages+=("--package=$name"); done
    RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --locked --target "$target" --features "$(features)" "${packages[@]}"

    mkdir -p "$scratch/out/root/data"
    for name in "${services[@]}" forwarder; do cp "${CARGO_TARGET_DIR:-target}/$target/release/$name" "$scratch/out/"; done
    {
        printf 'FROM scratch AS build\nCOPY out /out\n'
        sed '1,/^# --- images/d' Dockerfile
    } >"$scratch/Dockerfile"
    for name in "${services[@]}" edge; do
        DOCKER_BUILDKIT=$(buildkit) docker build --quiet --target "$name" --tag "$images/$name" \
            --build-arg "REVISION=$(revision "$name")" "$scratch" >"$scratch/log" 2>&1 ||
            { cat "$scratch/log" >&2; fail "docker could not build $images/$name"; }
    done
}

# Prints the features of the services, for cargo.
features() { if [ -s .secrets/tls/ca.pem ]; then printf '%s/tls ' "${services[@]}"; fi; }

# Prints 0, for the builder that every engine has, if buildx is not installed.
buildkit() { if docker buildx version >/dev/null 2>&1; then echo 1; else echo 0; fi; }

# Prints the last commit that changed an image's sources: other commits change no image and cause no update.
revision() {
    local commit of=("${1/edge/tools/forwarder}" common Cargo.toml Cargo.lock Dockerfile)
    commit=$(git log -1 --format=%h -- "${of[@]}" 2>/dev/null) || true
    [ -z "$(git status --porcelain -- "${of[@]}" 2>/dev/null)" ] || commit+=-dirty
    echo "${commit:-unknown}"
}

main "$@"
