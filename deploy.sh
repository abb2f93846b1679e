#!/usr/bin/env bash
# Runs the system on Docker Swarm, as the stack `hops`.
#
#   ./deploy.sh [up]                     build missing images, deploy all of them, and wait until everything is ready
#   ./deploy.sh build [--local]          build the images: in Docker, or from binaries that cargo builds here
#   ./deploy.sh status                   show tasks, readiness and queues, and what to type next
#   ./deploy.sh scale NAME=N             change a service's number of tasks, and wait until they are ready
#   ./deploy.sh update [--local] [--force]  build, and update changed services, or with --force all of our services
#   ./deploy.sh rollback [NAME...]       return to the images from before the last update
#   ./deploy.sh refresh                  apply changed settings of config-repo/, without a restart
#   ./deploy.sh logs [-f] [--request ID] [NAME]  print the logs of the services, oldest line first
#   ./deploy.sh live [--open] [--read-only]  show the stack's messages on a page of this machine, until Ctrl-C
#   ./deploy.sh smoke                    read the VIP's account once, and show the nine hops up to its offer
#   ./deploy.sh console [--show|--off]   open RabbitMQ's management pages on this machine, http://localhost:15672
#   ./deploy.sh token [--show]           explain how to use the operators' routes of the services
#   ./deploy.sh down [--volumes]         remove the stack; with --volumes, remove its data, too
#
# Needs Docker Engine 20.10 or later, the docker command 23 or later, and bash 4.4 or later; `build --local`
# and `live` also need Rust and a C linker, and `smoke` needs curl.
#
#   RABBITMQ_IMAGE  broker image that replaces the one in docker-compose.yml, such as hops-rabbitmq:4.3 (e2e/rabbitmq.sh
#                   build); it is kept until you name another one, or until down --volumes
#   HOPS_IPVS       yes or no: overrides the detection of whether the kernel can balance connections
#   HOPS_WAIT       number of seconds to wait for readiness (300)
#   HOPS_POLL       number of seconds between two checks of readiness (1); a check runs fifteen docker commands or more
set -euo pipefail

# Check this before any syntax that an older bash does not understand.
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
    echo "deploy.sh: bash 4.4 or later is needed, but this is $BASH_VERSION: install a newer one (on a Mac: brew install bash)" >&2
    exit 1
fi
shopt -s nullglob
# With attestations, a rebuilt image would get another id even if its contents are the same.
export BUILDX_NO_DEFAULT_ATTESTATIONS=1

cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"
stack=hops
images=${HOPS_IMAGES:-hops}
# Binary and image have the name of their service; edge is tools/forwarder.
services=(configserver accountservice vipservice)
scalable=(accountservice vipservice)
limit=${HOPS_WAIT:-300}
poll=${HOPS_POLL:-1}
scratch=''

main() {
    local verb=${1:-up}
    [ $# = 0 ] || shift
    [[ $limit =~ ^[0-9]+$ ]] || fail "HOPS_WAIT: '$limit' is not a number of seconds"
    limit=$((10#$limit))
    [[ $poll =~ ^[0-9]+$ ]] || fail "HOPS_POLL: '$poll' is not a number of seconds"
    case $verb in
        up | build | status | scale | update | rollback | refresh | logs | live | smoke | console | token | down) "verb_$verb" "$@" ;;
        -h | --help | help) usage ;;
        *) usage >&2; fail "unknown command '$verb': use one of the commands above" ;;
    esac
}

usage() { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' deploy.sh; }
say() { printf '%s\n' "$@"; }
fail() { printf 'deploy.sh: %s\n' "$@" >&2; exit 1; }

# --- up ---

verb_up() {
    [ $# = 0 ] || fail "up takes no arguments, but got '$1'"
    local started=$SECONDS
    need_docker
    need_swarm
    need_free_ports
    need_images
    make_secrets
    need_broker_image
    use_tags_of_images
    remember_updates
    deploy
    wait_until_ready "${services[@]}"
    need_answers
    say "everything is ready, after $((SECONDS - started)) s" ''
    next_steps
}

next_steps() {
    cat <<END
try:  curl 127.0.0.1:6767/accounts/10000
      ./deploy.sh scale vipservice=3      (or Docker's own: docker service scale ${stack}_vipservice=3)
      curl 127.0.0.1:6868/offers/by-replica
      ./deploy.sh status
END
}

need_docker() {
    command -v docker >/dev/null || fail 'docker is missing: install Docker Engine 20.10 or later, https://docs.docker.com/engine/install'
    local why version
    if ! why=$(docker info --format '{{.ServerVersion}}' 2>&1); then
        case $why in
            *'permission denied'*) fail 'you have no access to the Docker engine: run this with sudo, or add yourself to the group docker' ;;
            *) fail 'no Docker engine answers: start it (systemctl start docker, or dockerd)' "$(tail -n 1 <<<"$why")" ;;
        esac
    fi
    version=$(docker version --format '{{.Server.APIVersion}}')
    [ "$(printf '%s\n' 1.41 "$version" | sort -V | head -n 1)" = 1.41 ] ||
        fail "Docker Engine 20.10 or later is needed, but this engine has API version $version: update it"
    # docker 23 introduced this command, and accepts compose files without a version.
    [[ $(docker stack config --help 2>&1) == *'docker stack config'* ]] ||
        fail "the docker command 23 or later is needed, but this is $(docker version --format '{{.Client.Version}}'): update docker-ce-cli, or docker-cli (the engine may stay)"
}

swarm_state() { docker info --format '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}'; }

need_swarm() {
    local how=(docker swarm init --advertise-addr 127.0.0.1 --listen-addr 127.0.0.1)
    case $(swarm_state) in
        'active true') ;;
        'active false') fail 'this machine is a worker of a swarm, but the stack needs a swarm of its own: docker swarm leave' ;;
        inactive*)
            say "this machine has no swarm, so one is created for this machine only: ${how[*]}"
            "${how[@]}" >/dev/null || fail "the swarm could not be created; Docker's reason is above" ;;
        locked*) fail "this machine's swarm is locked: docker swarm unlock" ;;
        *) fail "this machine's swarm is in an unexpected state ($(swarm_state)): docker info says why; docker swarm leave --force removes it" ;;
    esac
    need_one_node
}

# Images have local names, volumes are folders on this machine, and readiness is checked in local containers.
need_one_node() {
    local nodes
    nodes=$(docker node ls --quiet | wc -l)
    [ "$nodes" = 1 ] || fail "this swarm has $nodes nodes, but the stack needs a swarm with this machine only" \
        'docs/OPERATIONS.md says why; to remove a node that is gone for good: docker node rm'
}

need_free_ports() {
    local port by
    ! is_deployed || return 0
    for port in 6767 6868; do
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            by=$(docker ps --filter "publish=$port" --format 'container {{.Names}}' | head -n 1)
            [ -n "$by" ] || by=$(PATH=$PATH:/usr/sbin:/sbin ss -Hltnp "sport = :$port" 2>/dev/null | sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/\1, process \2/p' | head -n 1) || true
            fail "port $port is in use by ${by:-another program}: stop it (if it is cargo hops: cargo hops down)"
        fi
    done
}

is_deployed() { [ -n "$(docker service ls --quiet --filter "label=com.docker.stack.namespace=$stack" 2>/dev/null)" ]; }
need_deployed() {
    need_docker
    case $(swarm_state) in 'active true') ;; *) fail 'this machine has no swarm, and so no stack: ./deploy.sh creates both' ;; esac
    is_deployed || fail "there is no stack $stack here: ./deploy.sh deploys it"
    remember_updates
}

# --- secrets: generated once, stored in .secrets/, printed only on request ---

make_secrets() {
    local umask_before name
    need_readable_secrets
    umask_before=$(umask)
    umask 077
    mkdir -p .secrets
    # The first user is for people; each service has one of its own.
    secret amqp_username printf hops
    secret amqp_password random
    for name in "${services[@]}"; do
        secret "${name}_amqp_username" printf %s "$name"
        secret "${name}_amqp_password" random
    done
    secret management_token random
    secret encrypt_key random
    keep rabbitmq-users.json rabbitmq_users
    umask "$umask_before"
}

# After a run with sudo they exist, but belong to root.
need_readable_secrets() {
    local file
    for file in .secrets .secrets/*; do
        [ ! -e "$file" ] || [ -r "$file" ] || fail "$file exists, but you have no permission to read it: it belongs to $(stat -c %U "$file")" \
            "run the same command with sudo, or take ownership: sudo chown -R $(id -un) .secrets"
    done
}

# secret NAME COMMAND...: stores the output of the command as a secret, unless the secret exists already.
secret() {
    local name=$1
    [ ! -s ".secrets/$name" ] || return 0
    if docker secret inspect "${stack}_$name" >/dev/null 2>&1; then
        fail ".secrets/$name is missing, but the stack was deployed with it" \
            'restore the folder .secrets; or type ./deploy.sh down, after which the next ./deploy.sh creates new secrets'
    fi
    keep "$@"
}

# keep NAME COMMAND...: writes the output to a file completely or, if interrupted, not at all.
keep() {
    local name=$1
    shift
    "$@" >".secrets/.$name.new"
    mv ".secrets/.$name.new" ".secrets/$name"
}

# Prints rabbitmq-users.json with the hashes of the passwords instead of their names.
rabbitmq_users() {
    local name users
    users=$(<rabbitmq-users.json)
    for name in amqp_password "${services[@]/%/_amqp_password}"; do
        users=${users/"\"password_hash\": \"$name\""/"\"password_hash\": \"$(password_hash "$(<".secrets/$name")")\""}
    done
    printf '%s\n' "$users"
}

# Prints a password as RabbitMQ stores it: the base64 of a salt of four bytes and of the SHA-256 of salt and password
# (https://www.rabbitmq.com/docs/passwords). The salt follows from the password, so that the same file comes out each time.
password_hash() {
    local salt
    salt=$(printf 'salt %s' "$1" | sha256sum | cut -c 1-8)
    bytes "$salt$({ bytes "$salt"; printf %s "$1"; } | sha256sum | cut -c 1-64)" | base64 | tr -d '\n'
}

# Prints the bytes that these hexadecimal digits stand for.
# shellcheck disable=SC2001 # bash knows & in a replacement since 5.2 only
bytes() { printf %b "$(sed 's/../\\x&/g' <<<"$1")"; }

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

has_tls() { [ -s .secrets/tls/ca.pem ] && [ -s .secrets/tls/certificate.pem ] && [ -s .secrets/tls/key.pem ]; }

# --- images ---

verb_build() {
    local is_local=no arg
    for arg; do
        case $arg in
            --local) is_local=yes ;;
            *) fail "build takes --local, but got '$arg'" ;;
        esac
    done
    need_docker
    if [ "$is_local" = yes ]; then build_local; else build_in_docker; fi
    print_sizes
}

need_images() {
    local name missing=()
    for name in "${services[@]}" edge; do
        has_image "$images/$name" || missing+=("$images/$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "not built yet: ${missing[*]}"
    if can_pull_rust; then build_in_docker
    elif command -v cargo >/dev/null; then say 'the Rust image cannot be pulled, so cargo builds the images here'; build_local
    else fail 'the Rust image cannot be pulled, and cargo is missing: install Rust (https://rustup.rs), or copy the images from another machine (docker save, docker load)'
    fi
    print_sizes
}

has_image() { docker image inspect "$1" >/dev/null 2>&1; }

rust_image() { sed -n 's/^ARG RUST=\(.*\)/rust:\1-slim-bookworm/p' Dockerfile; }
can_pull_rust() { has_image "$(rust_image)" || docker pull --quiet "$(rust_image)" >/dev/null 2>&1; }

build_in_docker() {
    local name
    can_pull_rust || fail "$(rust_image) does not exist and cannot be pulled: ./deploy.sh build --local builds with this machine's cargo"
    for name in "${services[@]}" edge; do
        docker build --target "$name" --tag "$images/$name" --build-arg "REVISION=$(revision "$name")" \
            --build-arg "FEATURES=$(features)" . ||
            fail "docker could not build $images/$name; its reason is above"
    done
}

# Builds the same images: cargo's binaries replace the first stages of the Dockerfile, and the lines after `# --- images` stay.
build_local() {
    local target name packages=()
    [ "$(uname -s)" = Linux ] || fail 'build --local works on Linux only: ./deploy.sh build builds in Docker'
    command -v cargo >/dev/null || fail 'build --local needs Rust: https://rustup.rs'
    make_scratch
    cc -static -x c -o "$scratch/static" - 2>/dev/null <<<'int main(void) { return 0; }' ||
        fail 'build --local needs a C linker and a static C library: apt-get install gcc libc6-dev, or dnf install gcc glibc-static'
    target=$(uname -m)-unknown-linux-gnu
    for name in "${services[@]}" forwarder; do packages+=("--package=$name"); done
    RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --locked --target "$target" --features "$(features)" "${packages[@]}"

    mkdir -p "$scratch/out/root/data"
    for name in "${services[@]}" forwarder; do
        cp "${CARGO_TARGET_DIR:-target}/$target/release/$name" "$scratch/out/"
    done
    {
        printf 'FROM scratch AS build\nCOPY out /out\n'
        sed '1,/^# --- images/d' Dockerfile
    } >"$scratch/Dockerfile"
    for name in "${services[@]}" edge; do
        DOCKER_BUILDKIT=$(buildkit) docker build --quiet --target "$name" --tag "$images/$name" \
            --build-arg "REVISION=$(revision "$name")" "$scratch" >"$scratch/log" 2>&1 || { cat "$scratch/log" >&2; fail "docker could not build $images/$name"; }
    done
}

# Prints the features of the services, for cargo.
features() { if has_tls; then printf '%s/tls ' "${services[@]}"; fi; }

# Prints 0, for the builder that every engine has, if buildx is not installed.
buildkit() { if docker buildx version >/dev/null 2>&1; then echo 1; else echo 0; fi; }

# Prints the last commit that changed an image's sources: other commits change no image and cause no update.
revision() {
    local commit of=("${1/edge/tools/forwarder}" common Cargo.toml Cargo.lock Dockerfile)
    commit=$(git log -1 --format=%h -- "${of[@]}" 2>/dev/null) || true
    [ -z "$(git status --porcelain -- "${of[@]}" 2>/dev/null)" ] || commit+=-dirty
    echo "${commit:-unknown}"
}

print_sizes() {
    local name
    for name in "${services[@]}" edge; do
        docker image inspect --format "{{.Size}}" "$images/$name" |
            awk -v name="$images/$name" '{ printf "%-24s %5.1f MB\n", name, $1 / 1000000 }'
    done
}

# An older broker cannot read the volume of a newer one, so the deployed broker stays until another one is named.
need_broker_image() {
    local pinned kept
    pinned=$(sed -n 's/.*RABBITMQ_IMAGE:-\([^}]*\)}.*/\1/p' docker-compose.yml)
    kept=$(cat .secrets/broker_image 2>/dev/null) || kept=$pinned
    if [ -z "${RABBITMQ_IMAGE:-}" ] && [ "$kept" != "$pinned" ]; then
        say "the broker stays $kept; to change it permanently: RABBITMQ_IMAGE=$pinned ./deploy.sh"
    fi
    export RABBITMQ_IMAGE=${RABBITMQ_IMAGE:-$kept}
    ! has_image "$RABBITMQ_IMAGE" || return 0
    say "pulling $RABBITMQ_IMAGE"
    docker pull "$RABBITMQ_IMAGE" || fail "$RABBITMQ_IMAGE does not exist and cannot be pulled; the reason is above" \
        'build a broker from Debian'\''s packages with e2e/rabbitmq.sh build, then: RABBITMQ_IMAGE=hops-rabbitmq:4.3 ./deploy.sh'
}

# --- deploying ---

# An image is deployed under a name that contains its id: a new build is rolled out, and the previous image keeps a name, to
# which the service can be rolled back.
use_tags_of_images() {
    local name tag
    for name in "${services[@]}" edge; do
        tag=$(docker image inspect --format '{{.Id}}' "$images/$name")
        tag=${tag#sha256:}
        docker tag "$images/$name" "$images/$name:${tag:0:12}"
        export "HOPS_${name^^}_TAG=${tag:0:12}"
    done
}

# Deploys only new settings: the running images stay, even if newer ones have been built.
use_tags_of_stack() {
    local name image
    use_tags_of_images
    for name in "${services[@]}" edge; do
        image=$(image_of "$name")
        [ -z "$image" ] || export "HOPS_${name^^}_TAG=${image##*:}"
    done
    RABBITMQ_IMAGE=$(image_of rabbitmq)
    need_broker_image
}

# A label names the image that a rollback restores. Docker's own PreviousSpec does not help: after scaling, it has the same
# image.
name_previous() {
    local name tag image previous is_update=no
    for name in "${services[@]}" edge; do
        tag=HOPS_${name^^}_TAG image=$(image_of "$name")
        [ -z "$image" ] || [ "$image" = "$images/$name:${!tag}" ] || is_update=yes
    done
    for name in "${services[@]}" edge; do
        if [ "$is_update" = yes ]; then previous=$(image_of "$name"); else previous=$(label_of "$name" hops.previous); fi
        export "HOPS_${name^^}_PREVIOUS=$previous"
    done
}

deploy() {
    local name replicas names=(rabbitmq "${services[@]}") files=(--compose-file docker-compose.yml) flags=(--prune --resolve-image never)
    # Keep the number of replicas of scaled services.
    for name in "${scalable[@]}"; do
        replicas=$(replicas_of "$name")
        [ -z "$replicas" ] || export "HOPS_${name^^}_REPLICAS=$replicas"
    done
    name_previous
    HOPS_RABBITMQ_CONF=$(hash_of rabbitmq.conf)
    HOPS_RABBITMQ_USERS=$(hash_of .secrets/rabbitmq-users.json)
    # Only files that a configserver reads, not backup copies of an editor.
    HOPS_CONFIG_REPO=$(hash_of config-repo/*.{yml,yaml,properties})
    export HOPS_RABBITMQ_CONF HOPS_RABBITMQ_USERS HOPS_CONFIG_REPO
    need_all_configs
    [[ $(docker stack deploy --help) != *--detach* ]] || flags+=(--detach=true)

    make_scratch
    cp docker-compose.yml "$scratch/stack.yml"
    if ! has_ipvs; then
        say 'this kernel has no IPVS, so the ports of a swarm would not answer: a task named edge listens on them instead'
        sed '/# ingress$/d' docker-compose.yml >"$scratch/stack.yml"
        files+=(--compose-file docker-compose.noipvs.yml)
        names+=(edge)
    fi
    if has_tls; then
        HOPS_TLS=$(hash_of .secrets/tls/{ca,certificate,key}.pem)
        HOPS_TLS_CONF=$(hash_of rabbitmq-tls.conf)
        export HOPS_TLS HOPS_TLS_CONF
        files+=(--compose-file docker-compose.tls.yml)
    fi
    files[1]=-
    # Deploy nothing if nothing has changed: Docker would treat it as a new version, and would roll back a version that does
    # not start to itself.
    HOPS_DEPLOYED=''
    export HOPS_DEPLOYED
    HOPS_DEPLOYED=$(docker stack config "${files[@]}" <"$scratch/stack.yml" | sha256sum | cut -c 1-12)
    if are_as_told "${names[@]}"; then return; fi
    docker stack deploy "${flags[@]}" "${files[@]}" "$stack" <"$scratch/stack.yml" >"$scratch/deploy" 2>&1 || {
        cat "$scratch/deploy" >&2
        ! grep -q 'only updates to Labels are allowed' "$scratch/deploy" ||
            fail 'a secret in .secrets/ (or a config of the same name) differs from the one of the stack' \
                'restore the old secrets; or type ./deploy.sh down, which keeps the volumes; or start over with ./deploy.sh down --volumes'
        fail 'Docker did not accept the stack; its reason is above'
    }
    grep -E '^(Creating|Removing)' "$scratch/deploy" || true
    keep broker_image printf '%s' "$RABBITMQ_IMAGE"
    remove_old
}

# Succeeds if each service was deployed with these settings last, and the services that cannot be scaled have one replica.
are_as_told() {
    local name
    for name; do
        [ "$(label_of "$name" hops.deployed)" = "$HOPS_DEPLOYED" ] || return 1
        [[ " ${scalable[*]} " == *" $name "* ]] || [ "$(replicas_of "$name")" = 1 ] || return 1
    done
}

# Hashes the names, too, because lines can move from one file to another.
hash_of() { sha256sum "$@" | sha256sum | cut -c 1-12; }

# `cargo hops` would serve a file that the stack does not list, but the stack would not.
need_all_configs() {
    local file
    for file in config-repo/*.{yml,yaml,properties}; do
        grep -qF "file: ./$file " docker-compose.yml ||
            fail "$file is not among the configs of docker-compose.yml: add it in both places, like the other files"
    done
}

# The name of a config or an image depends on its content, so each change leaves an old one behind. Removes those to which
# no service could be rolled back.
remove_old() {
    local name used format kind
    format='{{range .Configs}}{{.ConfigName}} {{end}}{{range .Secrets}}{{.SecretName}} {{end}}{{.Image}} '
    format="{{with .Spec.TaskTemplate.ContainerSpec}}$format{{end}}{{with .PreviousSpec}}{{with .TaskTemplate.ContainerSpec}}$format{{end}}{{end}}"
    used=" $(docker stack services --quiet "$stack" | xargs docker service inspect --format "$format{{index .Spec.Labels \"hops.previous\"}}" | tr '\n' ' ') "
    for kind in config secret; do
        docker "$kind" ls --filter "label=com.docker.stack.namespace=$stack" --format '{{.Name}}' | while read -r name; do
            [[ $used == *" $name "* ]] || docker "$kind" rm "$name" >/dev/null 2>&1 || true
        done
    done
    docker image ls --format '{{.Repository}}:{{.Tag}}' "$images/*" | while read -r name; do
        [[ ! $name =~ :[0-9a-f]{12}$ || $used == *" $name "* ]] || docker image rm "$name" >/dev/null 2>&1 || true
    done
}

# These print a value of a service's current specification, or nothing if there is no such service.
in_spec() { docker service inspect --format "{{$2}}" "${stack}_$1" 2>/dev/null || true; }
replicas_of() { in_spec "$1" .Spec.Mode.Replicated.Replicas; }
image_of() { in_spec "$1" .Spec.TaskTemplate.ContainerSpec.Image; }
label_of() { in_spec "$1" "index .Spec.Labels \"$2\""; }

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

# --- waiting ---

# Waits until each service has all its tasks, and all of them are ready. Prints what it waits for whenever that changes.
wait_until_ready() {
    local until=$((SECONDS + limit)) waiting before='' name task
    local -A known shown reasons
    for name in rabbitmq "$@"; do known[$name]=$(newest_failure "$name"); done
    while true; do
        waiting=''
        for name in rabbitmq "$@"; do
            reasons[$name]=$(missing_of "$name")
            waiting+=${reasons[$name]}
        done
        for name in "$@"; do
            fail_if_rolled_back "$name"
            replace_if_doubled "$name" "${reasons[$name]}"
        done
        [ -n "$waiting" ] || break
        if [ "$waiting" != "$before" ]; then
            say "waiting for:$waiting"
            before=$waiting
        fi
        for name in rabbitmq "$@"; do
            task=$(newest_failure "$name")
            # Show the first failure only, because the next ones usually have the same reason.
            if [ "$task" != "${known[$name]}" ] && [ -z "${shown[$name]:-}" ]; then
                show_failing "$name"
                shown[$name]=yes
            fi
        done
        if [ "$SECONDS" -ge "$until" ]; then
            for name in rabbitmq "$@"; do [ -z "$(missing_of "$name")" ] || show_failing "$name"; done
            fail "not ready after $limit s:$waiting" 'failures are above; ./deploy.sh status shows everything, HOPS_WAIT=600 waits longer'
        fi
        sleep "$poll"
    done
}

# If a new version is deployed while the old one waits for its next start, a swarm may start two tasks for one replica and
# leave it at that. A forced update replaces both. $2 is what missing_of has printed.
declare -A doubled_since
replace_if_doubled() {
    if [[ $2 != *' too many)' ]]; then
        unset "doubled_since[$1]"
    elif [ $((SECONDS - ${doubled_since[$1]:=$SECONDS})) -ge 40 ]; then
        say "$1: the swarm has started too many tasks, so all of them are replaced"
        docker service update --detach --force "${stack}_$1" >/dev/null
        unset "doubled_since[$1]"
    fi
}

# missing_of NAME: prints nothing if the service is ready, otherwise ` NAME (reason)`.
missing_of() {
    local name=$1 wanted='' state running ready old=0
    read -r wanted state < <(docker service inspect --format \
        '{{.Spec.Mode.Replicated.Replicas}} {{with .UpdateStatus}}{{.State}}{{end}}' "${stack}_$name" 2>/dev/null) || true
    [ -n "$wanted" ] || { echo " $name (not deployed)"; return; }
    running=$(docker service ls --filter "name=${stack}_$name" --format '{{.Replicas}}' | cut -d / -f 1)
    ready=$running
    # While some tasks do not run, the others are not asked: each question starts a process or two.
    if [ "$running" -ge "$wanted" ]; then
        [ "$name" = rabbitmq ] || ready=$(count_ready "$name")
        [ "$ready" -le "$running" ] || ready=$running
        old=$(count_old "$name")
    fi
    case $state in
        updating | rollback_started) echo " $name ($ready of $wanted ready, $state)" ;;
        *) if [ "$running" -gt "$wanted" ]; then echo " $name ($((running - wanted)) too many)"
           elif [ "$ready" -lt "$wanted" ]; then echo " $name ($ready of $wanted ready)"
           elif [ "$old" -gt 0 ]; then echo " $name ($old of $wanted to be replaced)"
           fi ;;
    esac
}

count_ready() {
    local id ready=0
    for id in $(containers_of "$1"); do
        ! docker exec "$id" "/$1" healthcheck --ready >/dev/null 2>&1 || ready=$((ready + 1))
    done
    echo "$ready"
}

# Prints the number of tasks whose specification differs from their service's: a swarm replaces them after a moment.
count_old() {
    local told format='{{with .ContainerSpec}}{{.Image}} {{json .Args}} {{json .Env}} {{json .Configs}} {{json .Secrets}}{{end}} {{.ForceUpdate}}'
    told=$(docker service inspect --format "{{with .Spec.TaskTemplate}}$format{{end}}" "${stack}_$1")
    docker service ps --quiet --no-trunc --filter desired-state=running "${stack}_$1" |
        xargs -r docker inspect --type task --format "{{with .Spec}}$format{{end}}" 2>/dev/null | grep -cvxF -e "$told" || true
}

containers_of() { docker ps --quiet --filter "label=com.docker.swarm.service.name=${stack}_$1" --filter status=running; }

fail_if_rolled_back() {
    local update
    update=$(update_of "$1")
    case $update in
        "${update_before[$1]:-}") ;;
        rollback_completed* | rollback_paused* | paused*)
            show_failing "$1"
            fail "$1: the new version did not start, so the swarm has rolled back to the old one (${update%% *})" ;;
    esac
}

# Prints state and start time of a service's last update, which a swarm reports until the next one.
update_of() { docker service inspect --format '{{with .UpdateStatus}}{{.State}} {{.StartedAt}}{{end}}' "${stack}_$1" 2>/dev/null || true; }
declare -A update_before
remember_updates() {
    local name
    for name in "${services[@]}"; do update_before[$name]=$(update_of "$name"); done
}

# Prints the newest task of a service that has failed, if any.
newest_failure() {
    docker service ps --no-trunc --format '{{.ID}} {{.CurrentState}}' --filter desired-state=shutdown "${stack}_$1" 2>/dev/null |
        sed -n -E '/ (Failed|Rejected) /{s/ .*//p;q}' || true
}

# Prints the error of the newest failed task, and its last log lines.
show_failing() {
    local task container
    task=$(newest_failure "$1")
    [ -n "$task" ] || return 0
    docker service ps --no-trunc --format '{{.ID}} {{.CurrentState}}: {{.Error}}' "${stack}_$1" | sed -n "s/^$task /--- a task of $1 has /p" | printable >&2
    container=$(docker ps --all --quiet --filter "label=com.docker.swarm.task.id=$task" | head -n 1)
    [ -z "$container" ] || docker logs --tail 15 "$container" 2>&1 | as_text >&2
}

# Without IPVS in the kernel, a port accepts connections but never answers.
need_answers() {
    local port until=$((SECONDS + 30))
    for port in 6767 6868; do
        until answers "$port" /livez; do
            [ "$SECONDS" -lt "$until" ] || fail "all tasks are ready, but port $port of this machine does not answer" \
                'if the kernel cannot balance connections, try: HOPS_IPVS=no ./deploy.sh'
            sleep 1
        done
    done
}

# answers PORT PATH: succeeds if the answer is 200, within three seconds.
answers() (
    exec 2>/dev/null 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
    printf 'GET %s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n' "$2" >&3
    read -r -t 3 -u 3 _ status _ && [ "$status" = 200 ]
)

# --- the other commands ---

verb_status() {
    [ $# = 0 ] || fail "status takes no arguments, but got '$1'"
    local name id why broker
    need_deployed
    docker stack services "$stack"
    say ''
    docker stack ps --filter desired-state=running --format 'table {{.Name}}\t{{.Node}}\t{{.CurrentState}}\t{{.Error}}' "$stack"
    say '' 'READY'
    for name in "${services[@]}"; do
        for id in $(containers_of "$name"); do
            why=$(docker exec "$id" "/$name" healthcheck --ready 2>&1) && why=yes
            printf '%-20s %s\n' "$(task_name "$id")" "${why#error: }" | printable
        done
    done
    broker=$(containers_of rabbitmq | head -n 1)
    say '' 'QUEUES'
    # Run this as the broker's user: as root it could create a cookie that belongs to root, which a starting broker cannot read.
    if [ -z "$broker" ]; then say 'the broker does not run'
    else docker exec --user rabbitmq "$broker" rabbitmqctl --quiet list_queues name messages consumers | printable || say 'the broker does not answer yet'; fi
    say ''
    next_steps
}

# Prints a container's task, such as `vipservice.2`.
task_name() {
    docker inspect --format '{{index .Config.Labels "com.docker.swarm.task.name"}}' "$1" | sed "s/^${stack}_//" | cut -d . -f 1,2
}

verb_scale() {
    [ $# = 1 ] || fail 'scale takes one argument, for example: ./deploy.sh scale vipservice=3'
    local name=${1%%=*} number=${1#*=}
    name=${name#"${stack}_"}
    if ! [[ " ${scalable[*]} " == *" $name "* ]] || [ "$name" = "$1" ] || ! [[ $number =~ ^[0-9]{1,3}$ ]]; then
        fail "scale: '$1' is not NAME=N with NAME one of ${scalable[*]} and N from 0 to 999, for example vipservice=3"
    fi
    need_deployed
    docker service scale --detach "${stack}_$name=$((10#$number))" >/dev/null
    wait_until_ready "$name"
    say "$name: $((10#$number)) ready, after $SECONDS s"
}

verb_update() {
    local arg is_forced=no how=()
    for arg; do
        case $arg in
            --local) how=(--local) ;;
            --force) is_forced=yes ;;
            *) fail "update takes --local and --force, but got '$arg'" ;;
        esac
    done
    need_deployed
    need_one_node
    verb_build "${how[@]}"
    make_secrets
    need_broker_image
    use_tags_of_images
    deploy
    wait_until_ready "${services[@]}"
    if [ "$is_forced" = yes ]; then
        for arg in "${services[@]}"; do
            docker service update --detach --force "${stack}_$arg" >/dev/null
            wait_until_ready "$arg"
        done
    fi
    say "everything is ready, after $SECONDS s"
}

verb_refresh() {
    [ $# = 0 ] || fail "refresh takes no arguments, but got '$1'"
    local id name why flags
    need_deployed
    need_one_node
    make_secrets
    use_tags_of_stack
    deploy
    wait_until_ready configserver
    id=$(containers_of configserver | head -n 1)
    docker exec "$id" /configserver refresh --config-repo /config-repo
    # Let one replica of each service check all settings: a wrong key is wrong for every replica.
    for name in "${scalable[@]}"; do
        id=$(containers_of "$name" | head -n 1)
        [ -n "$id" ] || continue
        read -ra flags <<<"$(docker inspect --format '{{join .Config.Cmd " "}}' "$id")"
        why=$(docker exec "$id" "/$name" "${flags[@]}" healthcheck --settings 2>&1) ||
            fail "$name rejects the settings: ${why#error: }" \
                "running services keep their old settings, but a service that starts now would fail: correct config-repo/, and type ./deploy.sh refresh again"
    done
    say "to see which settings each service has applied: ./deploy.sh logs | grep settings"
}

verb_rollback() {
    local name previous names=("$@") rolled=''
    need_deployed
    [ $# -gt 0 ] || names=("${services[@]}")
    for name in "${names[@]}"; do
        name=${name#"${stack}_"}
        [ -n "$(replicas_of "$name")" ] || fail "rollback: there is no service '$name'; there are: ${services[*]}"
        previous=$(label_of "$name" hops.previous)
        if [ -z "$previous" ] || [ "$previous" = "$(image_of "$name")" ]; then
            say "$name: the last update did not change it, so it stays as it is"
            continue
        fi
        has_image "$previous" || fail "$name: the previous image $previous no longer exists"
        docker service update --detach --no-resolve-image --image "$previous" --label-add "hops.previous=$(image_of "$name")" \
            --label-add hops.deployed= "${stack}_$name" >/dev/null
        wait_until_ready "$name"
        say "$name: rolled back to $previous"
        rolled+=" $name"
    done
    [ -n "$rolled" ] || fail 'there is nothing to roll back to'
}

verb_logs() {
    local follow=no request='' names=() name id
    while [ $# -gt 0 ]; do
        case $1 in
            -f | --follow) follow=yes ;;
            --request) [ $# -gt 1 ] || fail 'logs: --request needs an ID'; request=$2; shift ;;
            -*) fail "logs takes -f, --request ID and names of services, but got '$1'" ;;
            *) names+=("${1#"${stack}_"}") ;;
        esac
        shift
    done
    need_deployed
    [ ${#names[@]} -gt 0 ] || names=("${services[@]}")
    for name in "${names[@]}"; do
        [ -n "$(replicas_of "$name")" ] || fail "logs: there is no service '$name'; there are: rabbitmq ${services[*]}"
    done
    if [ "$follow" = yes ]; then follow "$request" "${names[@]}"; fi
    # `docker service logs` would omit removed tasks, and sometimes never returns, so ask the containers.
    for name in "${names[@]}"; do
        for id in $(docker ps --all --quiet --filter "label=com.docker.swarm.service.name=${stack}_$name"); do
            docker logs "$id" 2>&1 || true
        done
    done | only "$request" | sort | as_text
}

# Prints new log lines, even those of tasks that start later, until Ctrl-C.
followers=()
follow() {
    local request=$1 name id followed=' ' tail=10
    shift
    exec > >(only "$request" | as_text)
    while true; do
        for name; do
            for id in $(containers_of "$name"); do
                [[ $followed != *" $id "* ]] || continue
                docker logs --follow --tail "$tail" "$id" 2>&1 &
                followers+=($!)
                followed+="$id "
            done
        done
        tail=all
        sleep 1
    done
}

# Passes on the lines of one request, or all lines.
only() { if [ -n "$1" ]; then grep --line-buffered -F "\"$1\"" || fail "no line of request $1"; else cat; fi; }

# Replaces the control characters that a terminal obeys, line breaks and tabs apart: anybody may have written the text.
printable() {
    # These are bytes: 302 with 200 to 237 is a control character in UTF-8.
    LC_ALL=C awk_by_line '{ gsub(/\302[\200-\237]/, "?"); gsub(/[\001-\010\013-\037\177]/, "?"); print; fflush() }'
}

# Runs awk without its waiting for a whole block of lines, as mawk does.
awk_by_line() {
    if [[ $(awk -W version 2>&1 </dev/null) == mawk* ]]; then awk -W interactive "$@"; else awk "$@"; fi
}

# Turns lines of JSON into readable text; of other lines, only control characters are replaced.
as_text() {
    # shellcheck disable=SC2016 # the dollar signs belong to awk
    awk_by_line '
        function field(key,   at, rest) {
            if (!match($0, "\"" key "\":(\"([^\"\\\\]|\\\\.)*\"|[0-9]+)")) return ""
            rest = substr($0, RSTART + length(key) + 3, RLENGTH - length(key) - 3)
            if (rest ~ /^"/) rest = substr(rest, 2, length(rest) - 2)
            gsub(/\\"/, "\"", rest); gsub(/\\\\/, "\\", rest)
            return rest
        }
        !/^\{.*\}$/ { print; fflush(); next }
        {
            hop = field("hop")
            what = hop == "" ? field("level") : sprintf("hop=%s %s", hop, field("name"))
            printf "%-17s %-15s %s%s\n", field("instance"), what, field("message"), field("request") == "" ? "" : "  request=" field("request")
            fflush()
        }' | printable
}

# The page is a process of this machine with your rights; nothing is published.
verb_live() {
    need_deployed
    command -v cargo >/dev/null || fail 'live needs cargo, which builds the server of the page: see README.md'
    exec cargo hops --swarm live "$@"
}

verb_smoke() {
    [ $# = 0 ] || fail "smoke takes no arguments, but got '$1'"
    local id answer until
    need_deployed
    command -v curl >/dev/null || fail 'smoke needs curl: apt-get install curl'
    id=smoke-$(random | cut -c 1-12)
    answer=$(curl --silent --show-error --noproxy '*' --max-time 10 --header "x-request-id: $id" 127.0.0.1:6767/accounts/10000) ||
        fail 'port 6767 does not answer; the reason is above'
    say "$(printable <<<"$answer")"
    until=$((SECONDS + 30))
    until [ "$(hop_lines "$id")" = 9 ]; do
        [ "$SECONDS" -lt "$until" ] || { verb_logs --request "$id" >&2 || true; fail "request $id has not logged its nine hops after 30 s; its log lines are above"; }
        sleep 0.5
    done
    verb_logs --request "$id"
}

# Prints how many of the nine hops have been logged.
hop_lines() { verb_logs --request "$1" 2>/dev/null | sed -n 's/.* hop=\([1-9]\) .*/\1/p' | sort -u | wc -l; }

# Opens a forwarder to the broker's pages, on this machine only; the broker itself publishes no port.
verb_console() {
    local name=$stack-console until
    case ${1:-} in
        '' | --show) ;;
        --off)
            need_docker
            docker rm --force "$name" >/dev/null 2>&1 || true
            say 'the console is closed'
            return ;;
        *) fail "console takes --show or --off, but got '$1'" ;;
    esac
    need_deployed
    if [ -z "$(docker ps --quiet --filter "name=^$name\$")" ]; then
        docker rm --force "$name" >/dev/null 2>&1 || true
        docker run --detach --name "$name" --label "com.docker.stack.namespace=$stack" --network "${stack}_default" \
            --read-only --cap-drop ALL --publish 127.0.0.1:15672:15672 \
            "$images/edge" 0.0.0.0:15672=tasks.rabbitmq:15672 127.0.0.1:6700=alive >/dev/null ||
            fail "the console could not be opened; Docker's reason is above"
    fi
    until=$((SECONDS + 15))
    until answers 15672 /; do
        [ "$SECONDS" -lt "$until" ] || fail "the broker's pages do not answer: check ./deploy.sh status, and docker logs $name"
        sleep 0.2
    done
    say "http://localhost:15672 shows the broker's management pages, until ./deploy.sh console --off"
    if [ "${1:-}" = --show ]; then
        say "user $(<.secrets/amqp_username), password $(<.secrets/amqp_password)"
    else
        say "user $(<.secrets/amqp_username), the password is in .secrets/amqp_password; ./deploy.sh console --show prints it"
    fi
}

verb_token() {
    case ${1:-} in
        --show) need_secrets; say "$(<.secrets/management_token)" ;;
        '')
            need_secrets
            cat <<'END'
The token in .secrets/management_token grants access to the operators' routes of the services:
    curl -H "Authorization: Bearer $(cat .secrets/management_token)" 127.0.0.1:6767/settings
./deploy.sh token --show prints it.
END
            ;;
        *) fail "token takes --show, but got '$1'" ;;
    esac
}

need_secrets() {
    need_readable_secrets
    [ -s .secrets/management_token ] || fail 'there is no .secrets/management_token yet: ./deploy.sh creates it'
}

verb_down() {
    local arg volumes=no names
    for arg; do
        case $arg in
            --volumes) volumes=yes ;;
            *) fail "down takes --volumes, but got '$arg'" ;;
        esac
    done
    need_docker
    docker rm --force "$stack-console" >/dev/null 2>&1 || true
    case $(swarm_state) in
        'active true') remove_stack ;;
        *) say 'this machine has no swarm, and so no stack' ;;
    esac
    mapfile -t names < <(docker volume ls --quiet | grep -E "^(${stack}_rabbitmq|$stack-accountservice-[0-9]+)\$")
    if [ ${#names[@]} = 0 ]; then return; fi
    if [ "$volumes" = yes ]; then
        docker volume rm "${names[@]}" >/dev/null
        rm -f .secrets/broker_image
        say "removed the volumes ${names[*]}"
    else
        say "kept the volumes ${names[*]} and .secrets; ./deploy.sh down --volumes removes the volumes"
    fi
}

# `docker stack rm` returns before the stack is gone, and fails while a part of it is still in use.
remove_stack() {
    local until=$((SECONDS + 120)) left said=''
    if is_deployed; then say "removing the stack $stack"; else say "there is no stack $stack"; fi
    while true; do
        left=$(docker service ls --quiet --filter "label=com.docker.stack.namespace=$stack"
            docker ps --all --quiet --filter "label=com.docker.stack.namespace=$stack"
            docker network ls --quiet --filter "label=com.docker.stack.namespace=$stack")
        [ -n "$left" ] || return 0
        [ "$SECONDS" -lt "$until" ] || fail "services, containers or networks of the stack still exist after 120 s; Docker's last output:" "$said"
        said=$(docker stack rm "$stack" 2>&1) || true
        sleep 1
    done
}

make_scratch() { [ -n "$scratch" ] || scratch=$(mktemp -d); }

# shellcheck disable=SC2317 # the trap calls it
finish() {
    [ -z "$scratch" ] || rm -rf "$scratch"
    [ ${#followers[@]} = 0 ] || kill "${followers[@]}" 2>/dev/null || true
}
trap finish EXIT
trap 'say "" "interrupted; type the same command again to continue"; exit 130' INT
trap 'exit 143' TERM
main "$@"
