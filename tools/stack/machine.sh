# Sourced by deploy.sh and the other scripts: the names of the services, and what is needed of this machine.
# shellcheck shell=bash disable=SC2034,SC2154 # they set and use the variables

# Binary and image have the name of their service; the image edge is tools/forwarder.
services=(configserver accountservice vipservice)
scalable=(accountservice vipservice)
# A name without a host would belong to Docker Hub, which a swarm asks at each start of a task.
export HOPS_IMAGES=${HOPS_IMAGES:-localhost/hops}
images=$HOPS_IMAGES
# State of the machine's swarm and its number of nodes; of each service of the stack its number of replicas, its image and its
# previous image; and whether one of them is being updated.
swarm='' nodes='' is_updating=no
# Ids of the images that were built last, once they are known.
image_ids=''
declare -A replicas=() image=() previous=()

say() { printf '%s\n' "$@"; }
fail() { printf 'deploy.sh: %s\n' "$@" >&2; exit 1; }

need_docker() {
    local version name number now before state
    command -v docker >/dev/null || fail 'docker is missing: install Docker Engine 20.10 or later, https://docs.docker.com/engine/install'
    if ! swarm=$(docker info --format '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}} {{.Swarm.Nodes}}' 2>&1); then
        case $swarm in
            *'permission denied'*) fail 'you have no access to the Docker engine: run this with sudo, or add yourself to the group docker' ;;
            *) fail 'no Docker engine answers: start it (systemctl start docker, or dockerd)' "$(tail -n 1 <<<"$swarm")" ;;
        esac
    fi
    # A warning may come first.
    swarm=$(tail -n 1 <<<"$swarm")
    nodes=${swarm##* } swarm=${swarm% *}
    version=$(docker version --format '{{.Server.APIVersion}}')
    [ "$(printf '%s\n' 1.41 "$version" | sort -V | head -n 1)" = 1.41 ] ||
        fail "Docker Engine 20.10 or later is needed, but this engine has API version $version: update it"
    [[ $(docker stack deploy --help 2>&1) == *--detach* ]] ||
        fail "the docker command 26 or later is needed, but this is $(docker version --format '{{.Client.Version}}'): update docker-ce-cli, or docker-cli (the engine may stay)"
    [ "$swarm" = 'active true' ] || return 0
    while read -r name number now state before; do
        name=${name#"${stack}_"}
        replicas[$name]=$number image[$name]=$now previous[$name]=$before
        case $state in -updating | -rollback_started) is_updating=yes ;; esac
    done < <(docker service ls --quiet --filter "$of_stack" | xargs -r docker service inspect --format \
        '{{.Spec.Name}} {{.Spec.Mode.Replicated.Replicas}} {{.Spec.TaskTemplate.ContainerSpec.Image}} -{{with .UpdateStatus}}{{.State}}{{end}} {{index .Spec.Labels "hops.previous"}}')
}

# Images have local names, volumes are folders on this machine, and readiness is checked in local containers.
need_one_node() {
    [ "$nodes" = 1 ] || fail "this swarm has $nodes nodes, but the stack needs a swarm with this machine only" \
        'docs/OPERATIONS.md says why; to remove a node that is gone for good: docker node rm'
}

need_stack() {
    need_docker
    [ "$swarm" = 'active true' ] || fail 'this machine has no swarm, and so no stack: ./deploy.sh creates both'
    [ ${#image[@]} != 0 ] || fail "there is no stack $stack here: ./deploy.sh deploys it"
}

need_swarm() {
    local init=(docker swarm init --advertise-addr 127.0.0.1 --listen-addr 127.0.0.1) port by
    need_docker
    case $swarm in
        'active true') need_one_node ;;
        'active false') fail 'this machine is a worker of a swarm, but the stack needs a swarm of its own: docker swarm leave' ;;
        inactive*)
            say "this machine has no swarm, so one is created for this machine only: ${init[*]}"
            "${init[@]}" >/dev/null ;;
        locked*) fail "this machine's swarm is locked: docker swarm unlock" ;;
        *) fail "this machine's swarm is in an unexpected state ($swarm): docker info says why; docker swarm leave --force removes it" ;;
    esac
    [ ${#image[@]} = 0 ] || return 0
    for port in "$HOPS_ACCOUNTSERVICE_PORT" "$HOPS_VIPSERVICE_PORT"; do
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            by=$(docker ps --filter "publish=$port" --format 'container {{.Names}}' | head -n 1)
            fail "port $port is in use by ${by:-another program}: stop it (if it is cargo hops: cargo hops down), or add a number to each port: HOPS_PORT_BASE=1000 ./deploy.sh"
        fi
    done
}

# Prints a running container of a service.
container_of() { docker ps --quiet --filter "label=com.docker.swarm.service.name=${stack}_$1" --filter status=running | head -n 1; }

# Without IPVS, the virtual addresses and the ports of a swarm accept connections but never answer.
has_ipvs() {
    case ${HOPS_IPVS:-} in
        yes) return 0 ;;
        no) return 1 ;;
        '') ;;
        *) fail "HOPS_IPVS is yes or no, but got '$HOPS_IPVS'" ;;
    esac
    # The engine may run on another kernel, such as Docker Desktop's, which has IPVS.
    [ "$(uname -s)" = Linux ] || return 0
    [[ ${DOCKER_HOST:-$(docker context inspect --format '{{.Endpoints.docker.Host}}')} == unix://* ]] || return 0
    [ -e /proc/net/ip_vs ] || PATH=$PATH:/usr/sbin:/sbin modprobe --dry-run --quiet ip_vs 2>/dev/null
}

# After a run with sudo they exist, but belong to root.
need_readable_secrets() {
    local file
    for file in .secrets .secrets/*; do
        [ ! -e "$file" ] || [ -r "$file" ] || fail "$file exists, but you have no permission to read it: it belongs to $(stat -c %U "$file")" \
            "run the same command with sudo, or take ownership: sudo chown -R $(id -un) .secrets"
    done
}

# Of the others, new ones replace those that are lost.
need_secrets() {
    local file
    need_readable_secrets
    for file in .secrets/{management_token,encrypt_key}; do
        [ ${#image[@]} = 0 ] || [ -s "$file" ] || fail "$file is missing, but the stack was deployed with it" \
            'restore the folder .secrets; or type ./deploy.sh down, after which the next ./deploy.sh creates new secrets'
    done
}
