#!/usr/bin/env bash
# Runs RabbitMQ in a container, for the tests.
#
#   e2e/rabbitmq.sh start [IMAGE]              run a broker and wait until it answers AMQP and management requests
#   e2e/rabbitmq.sh stop                       remove the broker and its data
#   e2e/rabbitmq.sh build [4.3|4.0] [--force] build the image localhost/hops-rabbitmq:4.3 (or :4.0) from Debian's packages
#
# `start` runs localhost/hops-rabbitmq:4.3 if you have built that image, and otherwise the official rabbitmq:4.3-management: if you can
# reach an image registry, you do not have to build anything. User and password are guest and guest, on loopback only.
#
# To run several brokers side by side, give each of them its own:
#   HOPS_BROKER_NAME        name of the container  (hops-rabbitmq)
#   HOPS_BROKER_PORT        AMQP                   (5672)
#   HOPS_BROKER_ADMIN_PORT  management             (15672)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
name=${HOPS_BROKER_NAME:-hops-rabbitmq}
port=${HOPS_BROKER_PORT:-5672}
admin_port=${HOPS_BROKER_ADMIN_PORT:-15672}
wait_seconds=90
apt_install='apt-get install -y --no-install-recommends'

main() {
    local verb=${1:-}
    [ $# = 0 ] || shift
    case $verb in
        build) build "$@" ;;
        start) start "$@" ;;
        stop) stop "$@" ;;
        -h | --help | help) usage ;;
        *) usage >&2; exit 2 ;;
    esac
}

usage() { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }

fail() { printf 'rabbitmq.sh: %s\n' "$@" >&2; exit 1; }

build() {
    local version=4.3 force=no arg suite image scratch
    for arg; do
        case $arg in
            4.3 | 4.0) version=$arg ;;
            --force) force=yes ;;
            *) fail "build: '$arg' is not one of 4.3, 4.0 and --force" ;;
        esac
    done
    case $version in
        4.3) suite=sid ;;
        4.0) suite=trixie ;;
    esac
    image=localhost/hops-rabbitmq:$version

    need_docker
    if [ "$force" = no ] && has_image "$image"; then
        echo "$image exists already (--force builds it again)"
        return
    fi
    [ "$(id -u)" = 0 ] || fail 'build needs root, because mmdebstrap creates a Debian system: run it with sudo'
    command -v mmdebstrap >/dev/null || fail "build needs mmdebstrap: $apt_install mmdebstrap"
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] ||
        fail "build needs Debian's keys: $apt_install debian-archive-keyring"

    scratch=$(mktemp -d)
    # shellcheck disable=SC2064 # expand the folder's name now
    trap "rm -rf '$scratch'" EXIT
    echo "building $image from Debian $suite, which takes about a minute"
    RABBITMQ_VERSION=$version mmdebstrap --mode=root --variant=essential --format=tar \
        --include=rabbitmq-server \
        --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "3"' \
        --aptopt='Acquire::Check-Valid-Until "false"' \
        --dpkgopt=force-unsafe-io \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --customize-hook="$here/rabbitmq/customize.sh" \
        "$suite" "$scratch/root.tar" >"$scratch/log" 2>&1 </dev/null || {
        tail -n 40 "$scratch/log" >&2
        fail "mmdebstrap could not create Debian $suite; its last lines are above"
    }
    docker import \
        --change 'ENV HOME=/var/lib/rabbitmq LANG=C.UTF-8' \
        --change 'EXPOSE 4369 5672 15672 15692 25672' \
        --change 'VOLUME /var/lib/rabbitmq' \
        --change 'CMD ["rabbitmq-server"]' \
        "$scratch/root.tar" "$image" >/dev/null
    echo "$image is built: $(grep -m 1 '^rabbitmq-server ' "$scratch/log")"
}

start() {
    [ $# -le 1 ] || fail 'start: name at most one image'
    local wanted=${1:-} image other id why
    need_docker
    command -v curl >/dev/null || fail "start needs curl: $apt_install curl"

    if [ "$(container '{{.State.Running}}')" = true ]; then
        check_that_it_is_the_one "$wanted"
        image=$(container '{{.Config.Image}}')
    else
        image=$wanted
        [ -n "$image" ] || image=$(default_image)
        for other in "$port" "$admin_port"; do
            ! is_open "$other" || fail_taken "$other"
        done
        # A container that exists but does not run is a leftover: its data may be what made it fail.
        docker rm --force --volumes "$name" >/dev/null 2>&1 || true
        # The host name determines the node's name, and with it the name of its data folder.
        if ! id=$(docker run --detach --name "$name" --hostname rabbitmq \
            --publish "127.0.0.1:$port:5672" --publish "127.0.0.1:$admin_port:15672" "$image"); then
            docker rm --force --volumes "$name" >/dev/null 2>&1 || true
            has_image "$image" || fail "$image does not exist and could not be pulled (the reason is above): e2e/rabbitmq.sh build builds an image"
            fail "docker could not run $image; its reason is above"
        fi
        echo "started $name from $image, container ${id:0:12}"
    fi

    why=$(wait_until_ready) || {
        echo "--- the last lines of docker logs $name ---" >&2
        docker logs --tail 40 "$name" >&2 || true
        fail "$name: $why" "the container is left as it is; e2e/rabbitmq.sh stop removes it"
    }
    echo "$name ($image) answers AMQP on 127.0.0.1:$port and management requests on http://127.0.0.1:$admin_port, as guest/guest"
    if [ "$port" != 5672 ] || [ "$admin_port" != 15672 ]; then
        echo "for the tests: export HOPS_BROKER=amqp://127.0.0.1:$port HOPS_BROKER_ADMIN=http://127.0.0.1:$admin_port"
    fi
}

stop() {
    [ $# = 0 ] || fail 'stop takes no arguments: HOPS_BROKER_NAME names the container'
    need_docker
    if [ -z "$(container '{{.Id}}')" ]; then
        echo "$name does not exist: nothing to stop"
        return
    fi
    docker rm --force --volumes "$name" >/dev/null
    echo "$name is removed"
}

# --- helpers ---

need_docker() {
    command -v docker >/dev/null || fail 'docker is missing: install Docker Engine'
    docker info >/dev/null 2>&1 || fail 'no Docker engine answers: start it (dockerd), or run this as a user who may access it'
}

has_image() { docker image inspect "$1" >/dev/null 2>&1; }

default_image() { if has_image localhost/hops-rabbitmq:4.3; then echo localhost/hops-rabbitmq:4.3; else echo rabbitmq:4.3-management; fi; }

# container FORMAT: prints one property of our container, or nothing if it does not exist.
container() { docker container inspect --format "$1" "$name" 2>/dev/null || true; }

check_that_it_is_the_one() {
    local image ports
    image=$(container '{{.Config.Image}}')
    [ -z "$1" ] || [ "$1" = "$image" ] ||
        fail "$name runs already, from $image instead of $1: type e2e/rabbitmq.sh stop first, or set another HOPS_BROKER_NAME"
    ports="$(docker port "$name" 5672 || true) $(docker port "$name" 15672 || true)"
    [ "$ports" = "127.0.0.1:$port 127.0.0.1:$admin_port" ] ||
        fail "$name runs already, at $ports instead of ports $port and $admin_port: type e2e/rabbitmq.sh stop first, or set another HOPS_BROKER_NAME"
}

is_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

fail_taken() {
    local by
    by=$(docker ps --filter "publish=$1" --format '{{.Names}}' | head -n 1)
    fail "port $1 is in use by ${by:+container }${by:-another program}" \
        "if that is RabbitMQ 4.3 or 4.0 with the management plugin, the tests can use it: set HOPS_BROKER and HOPS_BROKER_ADMIN" \
        "otherwise stop it, or choose other ports: HOPS_BROKER_PORT=5673 HOPS_BROKER_ADMIN_PORT=15673 e2e/rabbitmq.sh start"
}

# Prints the reason on stdout if it gives up.
wait_until_ready() {
    local until=$((SECONDS + wait_seconds))
    while ! { takes_amqp && takes_management; }; do
        if [ "$(container '{{.State.Running}}')" != true ]; then
            echo "the container exited with code $(container '{{.State.ExitCode}}')"
            return 1
        fi
        if [ "$SECONDS" -ge "$until" ]; then
            echo "not ready after $wait_seconds s"
            return 1
        fi
        sleep 0.5
    done
}

# An open port proves nothing, because docker opens it before the broker does. A broker answers AMQP's protocol header with
# a frame of type 1 (method).
takes_amqp() (
    exec 2>/dev/null
    exec 3<>"/dev/tcp/127.0.0.1/$port" || exit 1
    printf 'AMQP\0\0\x09\x01' >&3
    IFS= LC_ALL=C read -r -t 2 -n 1 -u 3 frame_type
    [ "$frame_type" = $'\x01' ]
)

takes_management() {
    curl --silent --fail --noproxy '*' --max-time 5 --user guest:guest --output /dev/null "http://127.0.0.1:$admin_port/api/overview"
}

main "$@"
