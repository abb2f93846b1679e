#!/usr/bin/env bash
# Runs the system on Docker Swarm.
#
#   ./deploy.sh [up]                        build missing images, deploy all of them, and wait until everything is ready
#   ./deploy.sh build [--local]             build the images: in Docker, or from binaries that cargo builds here
#   ./deploy.sh update [--local] [--force]  build, and update changed services, or with --force all of our services
#   ./deploy.sh scale NAME=N                change a service's number of tasks, and wait until they are ready
#   ./deploy.sh refresh                     apply changed settings of config-repo/, without a restart
#   ./deploy.sh rollback [NAME...]          return to the images from before the last update
#   ./deploy.sh rotate amqp|management|encrypt  replace passwords, a token or a key, while everything works
#   ./deploy.sh console [--show|--off]      open RabbitMQ's management pages on this machine
#   ./deploy.sh token [--show]              explain how to use the operators' routes of the services
#   ./deploy.sh down [--volumes]            remove the stack; with --volumes, remove its data, too
#
# What happens in the stack is shown by `cargo hops --swarm`, to which these are passed on:
#
#   ./deploy.sh status                      list the tasks with their readiness, and the queues
#   ./deploy.sh stats                       show the CPU and memory of each task
#   ./deploy.sh logs [-f] [--request ID] [NAME...]  print the logs of the services, oldest line first
#   ./deploy.sh walk | verify | queues | live       follow a message, match reads with offers, list queues, open the page
#
# Needs Docker Engine 20.10 or later, the docker command 26 or later, and bash 4.4 or later; `build --local` and the verbs that
# show something also need Rust and a C linker.
#
#   HOPS_STACK      name of the stack (hops): several can run on one machine if their ports differ
#   HOPS_PORT_BASE  number that is added to each port, as with `cargo hops` (0)
#   HOPS_IMAGES     beginning of the images' names (localhost/hops), such as registry.example/team/hops
#   RABBITMQ_IMAGE  broker image that replaces the one in docker-compose.yml, such as localhost/hops-rabbitmq:4.3
#                   (e2e/rabbitmq.sh build); it is kept until you name another one, or until down --volumes
#   HOPS_IPVS       yes or no: overrides the detection of whether the kernel can balance connections
#   HOPS_WAIT       number of seconds to wait for readiness (300)
set -euo pipefail

# Check this before any syntax that an older bash does not understand.
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
    echo "deploy.sh: bash 4.4 or later is needed, but this is $BASH_VERSION: install a newer one (on a Mac: brew install bash coreutils)" >&2
    exit 1
fi
shopt -s nullglob
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"

export HOPS_STACK=${HOPS_STACK:-hops}
stack=$HOPS_STACK limit=${HOPS_WAIT:-300} base=${HOPS_PORT_BASE:-0} watcher=''
of_stack="label=com.docker.stack.namespace=$stack"
# The stacks of one checkout share its secrets, but not their brokers.
broker_file=.secrets/broker_image
[ "$stack" = hops ] || broker_file+=-$stack
. tools/stack/machine.sh
. tools/stack/rollout.sh

main() {
    local verb=${1:-up}
    [ $# = 0 ] || shift
    [[ $limit =~ ^0*[1-9][0-9]{0,5}$ ]] || fail "HOPS_WAIT: '$limit' is not a number of seconds"
    limit=$((10#$limit))
    [[ $base =~ ^[0-9]{1,5}$ && $((10#$base)) -lt 49864 ]] || fail "HOPS_PORT_BASE: '$base' is not a number from 0 to 49863"
    [[ $stack =~ ^[a-z][a-z0-9-]{0,30}$ ]] || fail "HOPS_STACK: '$stack' is not a name of small letters, digits and -"
    export HOPS_ACCOUNTSERVICE_PORT=$((6767 + 10#$base)) HOPS_VIPSERVICE_PORT=$((6868 + 10#$base))
    case $verb in
        status | stats | walk | verify | queues | live) show "$verb" "$verb" "$@" ;;
        logs) show logs service logs "$@" ;;
        up | build | update | scale | refresh | rollback | rotate | console | token | down)
            case ${1:-} in -h | --help) usage | grep -F "./deploy.sh ${verb/%up/[up]} " ;; *) "verb_$verb" "$@" ;; esac ;;
        -h | --help | help) usage ;;
        -V | --version | version) sed -n 's/^version = "\(.*\)"/hops \1/p' Cargo.toml ;;
        *) fail "unknown command '$verb': ./deploy.sh help lists the commands" ;;
    esac
}

usage() { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' deploy.sh; }

# show VERB WORD...: passes the words on.
show() {
    # The program of a release archive needs no Rust.
    if [ -x ./hops ]; then exec ./hops --swarm "${@:2}"; fi
    command -v cargo >/dev/null || fail "$1 needs cargo, which this user does not have (https://rustup.rs), or the program hops of a release archive, in this folder" \
        "Docker's own commands show less: docker stack ps $stack, docker service ls, docker service logs ${stack}_vipservice"
    exec cargo hops --swarm "${@:2}"
}

# --- verbs that change the stack ---

verb_up() {
    [ $# = 0 ] || fail "up takes no arguments, but got '$1'"
    need_swarm
    need_images
    deploy
    say "everything is ready, after $SECONDS s" '' "try:  curl 127.0.0.1:$HOPS_ACCOUNTSERVICE_PORT/accounts/10000" \
        "      ./deploy.sh scale vipservice=3      (or Docker's own: docker service scale ${stack}_vipservice=3)" \
        "      curl 127.0.0.1:$HOPS_VIPSERVICE_PORT/offers/by-replica" '      ./deploy.sh status'
}

verb_build() {
    need_docker
    tools/stack/images.sh "$@"
}

verb_update() {
    local arg is_forced=no how=() name
    for arg; do
        case $arg in
            --local) how=(--local) ;;
            --force) is_forced=yes ;;
            *) fail "update takes --local and --force, but got '$arg'" ;;
        esac
    done
    need_stack
    need_one_node
    if [ ${#how[@]} = 0 ] && [[ $images != localhost/* ]]; then pull_images; else tools/stack/images.sh "${how[@]}"; fi
    deploy
    if [ "$is_forced" = yes ]; then
        for name in "${services[@]}"; do change service update --force "${stack}_$name"; done
    fi
    say "everything is ready, after $SECONDS s"
}

verb_scale() {
    local name number
    [ $# = 1 ] || fail 'scale takes one argument, for example: ./deploy.sh scale vipservice=3'
    name=${1%%=*} number=${1#*=}
    name=${name#"${stack}_"}
    if ! [[ " ${scalable[*]} " == *" $name "* && $1 == *=* && $number =~ ^[0-9]{1,3}$ ]]; then
        fail "scale: '$1' is not NAME=N with NAME one of ${scalable[*]} and N from 0 to 999, for example vipservice=3"
    fi
    need_stack
    change service scale "${stack}_$name=$((10#$number))"
    say "$name: $((10#$number)) ready, after $SECONDS s"
}

verb_refresh() {
    local id name why flags
    [ $# = 0 ] || fail "refresh takes no arguments, but got '$1'"
    need_stack
    need_one_node
    deploy --running-images
    docker exec "$(container_of configserver)" /configserver refresh --config-repo /config-repo
    # Let one replica of each service check all settings: a wrong key is wrong for every replica.
    for name in "${scalable[@]}"; do
        id=$(container_of "$name")
        [ -n "$id" ] || continue
        read -ra flags <<<"$(docker inspect --format '{{join .Config.Cmd " "}}' "$id")"
        why=$(docker exec "$id" "/$name" "${flags[@]}" healthcheck --settings 2>&1) || fail "$name rejects the settings: ${why#error: }" \
            'running services keep their old settings, but a service that starts now would fail: correct config-repo/, and type ./deploy.sh refresh again'
    done
    say 'to see which settings each service has applied: ./deploy.sh logs | grep settings'
}

verb_rollback() {
    local name names=("$@") rolled=''
    need_stack
    [ $# -gt 0 ] || names=("${services[@]}")
    for name in "${names[@]}"; do
        name=${name#"${stack}_"}
        [ -n "${image[$name]:-}" ] || fail "rollback: there is no service '$name'; there are: ${services[*]}"
        if [ -z "${previous[$name]}" ] || [ "${previous[$name]}" = "${image[$name]}" ]; then
            say "$name: the last update did not change it, so it stays as it is"
            continue
        fi
        docker image inspect "${previous[$name]}" >/dev/null 2>&1 || fail "$name: the previous image ${previous[$name]} no longer exists"
        change service update --no-resolve-image --image "${previous[$name]}" --label-add "hops.previous=${image[$name]}" "${stack}_$name"
        say "$name: rolled back to ${previous[$name]}"
        rolled+=" $name"
    done
    [ -n "$rolled" ] || fail 'there is nothing to roll back to'
}

verb_rotate() {
    local broker newest files
    [[ $# = 1 && $1 =~ ^(amqp|management|encrypt)$ ]] || fail 'rotate takes one argument: amqp, management or encrypt'
    need_stack
    need_one_node
    need_secrets
    broker=$(container_of rabbitmq)
    [ -n "$broker" ] || fail 'the broker does not run: see ./deploy.sh status'
    tools/stack/secrets.sh new "$1"
    if [ "$1" = amqp ]; then
        # The old version of a service works with the old user, and the new one needs its own as soon as it starts.
        docker exec --interactive --user rabbitmq "$broker" bash -c 'cat >/tmp/users.json && rabbitmqctl --quiet import_definitions /tmp/users.json' \
            <.secrets/rabbitmq-users.json
    fi
    deploy --running-images
    if [ "$1" = encrypt ]; then
        newest=$(tail -n 1 .secrets/encrypt_key | cut -d : -f 1)
        files=$(grep -F '{cipher}' config-repo/* | grep -vF "{cipher}{key:$newest}" | cut -d : -f 1 | sort -u) || true
        [ -z "$files" ] || say 'these files have values of an older key, which stays readable; encrypt the values again (configserver encrypt):' "$files"
    fi
    say "$1: rotated, and everything is ready, after $SECONDS s"
}

verb_down() {
    local volumes=no names until=$((SECONDS + 120)) left said=''
    case "$*" in '') ;; --volumes) volumes=yes ;; *) fail "down takes --volumes, but got '$*'" ;; esac
    need_docker
    docker rm --force "$stack-console" >/dev/null 2>&1 || true
    if [ "$swarm" != 'active true' ]; then
        say 'this machine has no swarm, and so no stack'
    elif [ ${#image[@]} = 0 ]; then
        say "there is no stack $stack"
    else
        say "removing the stack $stack"
    fi
    # `docker stack rm` returns before the stack is gone, and fails while a part of it is still in use.
    while true; do
        left=$(docker service ls --quiet --filter "$of_stack" 2>/dev/null || true; docker ps --all --quiet --filter "$of_stack" &&
            docker network ls --quiet --filter "$of_stack")
        [ -n "$left" ] || break
        [ "$SECONDS" -lt "$until" ] || fail "services, containers or networks of the stack still exist after 120 s; Docker's last output:" "$said"
        said=$(docker stack rm "$stack" 2>&1) || true
        sleep 1
    done
    mapfile -t names < <(docker volume ls --quiet | grep -E "^(${stack}_rabbitmq|$stack-accountservice-[0-9]+)\$")
    if [ ${#names[@]} = 0 ]; then return; fi
    if [ "$volumes" = no ]; then
        say "kept the volumes ${names[*]} and .secrets; ./deploy.sh down --volumes removes the volumes"
    else
        docker volume rm "${names[@]}" >/dev/null
        rm -f "$broker_file"
        say "removed the volumes ${names[*]}"
    fi
}

verb_console() {
    local name=$stack-console port=$((15672 + 10#$base)) until=$((SECONDS + 15)) password='the password is in .secrets/amqp_password'
    need_readable_secrets
    case ${1:-} in
        '') ;;
        --show) password="password $(<.secrets/amqp_password)" ;;
        --off)
            need_docker
            docker rm --force "$name" >/dev/null 2>&1 || true
            say 'the console is closed'
            return ;;
        *) fail "console takes --show or --off, but got '$1'" ;;
    esac
    need_stack
    # A forwarder to the broker's pages, on this machine only; the broker itself publishes no port.
    docker rm --force "$name" >/dev/null 2>&1 || true
    docker run --detach --name "$name" --label "${of_stack#label=}" --network "${stack}_default" --read-only --cap-drop ALL \
        --publish "127.0.0.1:$port:15672" "${image[vipservice]/vipservice*/edge}" 0.0.0.0:15672=tasks.rabbitmq:15672 127.0.0.1:6700=alive >/dev/null
    until answers "$port" /; do
        [ "$SECONDS" -lt "$until" ] || fail "the broker's pages do not answer: check ./deploy.sh status, and docker logs $name"
        sleep 0.2
    done
    say "http://localhost:$port shows the broker's management pages to user $(<.secrets/amqp_username), until ./deploy.sh console --off" "$password"
}

verb_token() {
    need_readable_secrets
    [ -s .secrets/management_token ] || fail 'there is no .secrets/management_token yet: ./deploy.sh creates it'
    case ${1:-} in
        --show) say "$(<.secrets/management_token)" ;;
        '') say 'The token in .secrets/management_token grants access to the operators'\'' routes of the services:' \
            "    curl -H \"Authorization: Bearer \$(cat .secrets/management_token)\" 127.0.0.1:$HOPS_ACCOUNTSERVICE_PORT/settings" ;;
        *) fail "token takes --show, but got '$1'" ;;
    esac
}

trap stop_watcher EXIT
trap 'say "" "interrupted; type the same command again to continue"; exit 130' INT
trap 'exit 143' TERM
main "$@"
