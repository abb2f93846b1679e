# Sourced by deploy.sh: what is deployed, with which images, settings and secrets; and waiting until it runs.
# shellcheck shell=bash disable=SC2034,SC2154 # deploy.sh sets the variables

# --- deploying ---

need_images() {
    ! image_ids=$(docker image inspect --format '{{.Id}}' "${services[@]/#/$images/}" "$images/edge" 2>/dev/null) || return 0
    image_ids=''
    if [[ $images = localhost/* ]]; then tools/stack/images.sh --any; else pull_images; fi
}

pull_images() {
    local name
    for name in "${services[@]}" edge; do
        docker pull "$images/$name" || fail "$images/$name cannot be pulled; the reason is above" \
            "check HOPS_IMAGES; ./deploy.sh build --local builds images with these names here"
    done
}

# deploy [--running-images]: deploys the compose files, with the images that were built last or with those that run.
deploy() {
    local name file files=(--compose-file -) stack_file
    need_secrets
    tools/stack/secrets.sh
    name_images "${1:-}"
    # Keep the number of replicas of scaled services.
    for name in "${scalable[@]}"; do
        [ -z "${replicas[$name]:-}" ] || export "HOPS_${name^^}_REPLICAS=${replicas[$name]}"
    done
    # `cargo hops` would serve a file that the stack does not list, but the stack would not.
    for file in config-repo/*.{yml,yaml,properties}; do
        grep -qF "file: ./$file " docker-compose.yml ||
            fail "$file is not among the configs of docker-compose.yml: add it in both places, like the other files"
    done
    # A config or a secret cannot be changed, so its name contains a hash of what is in it. Only files that a configserver reads count,
    # not backup copies of an editor.
    HOPS_CONFIG_REPO=$(hash_of config-repo/*.{yml,yaml,properties})
    HOPS_RABBITMQ_CONF=$(hash_of rabbitmq.conf)
    HOPS_RABBITMQ_USERS=$(hash_of .secrets/rabbitmq-users.json)
    HOPS_AMQP=$(hash_of .secrets/*_amqp_{username,password})
    HOPS_MANAGEMENT=$(hash_of .secrets/management_token)
    HOPS_ENCRYPT=$(hash_of .secrets/encrypt_key)
    export HOPS_CONFIG_REPO HOPS_RABBITMQ_CONF HOPS_RABBITMQ_USERS HOPS_AMQP HOPS_MANAGEMENT HOPS_ENCRYPT
    stack_file=$(<docker-compose.yml)
    if ! has_ipvs; then
        say 'this kernel has no IPVS, so the ports of a swarm would not answer: a task named edge listens on them instead'
        stack_file=$(sed '/# ingress$/d' docker-compose.yml)
        files+=(--compose-file docker-compose.noipvs.yml)
    fi
    if [ -s .secrets/tls/ca.pem ] && [ -s .secrets/tls/certificate.pem ] && [ -s .secrets/tls/key.pem ]; then
        HOPS_TLS=$(hash_of .secrets/tls/{ca,certificate,key}.pem)
        HOPS_TLS_CONF=$(hash_of rabbitmq-tls.conf)
        export HOPS_TLS HOPS_TLS_CONF
        files+=(--compose-file docker-compose.tls.yml)
    fi
    printf %s "$RABBITMQ_IMAGE" >"$broker_file"
    wait_for_updates
    change stack deploy --prune --resolve-image never "${files[@]}" "$stack" <<<"$stack_file"
    remove_old_users
    remove_old
}

# Hashes the names, too, because lines can move from one file to another.
hash_of() { sha256sum "$@" | sha256sum | cut -c 1-12; }

# An image is deployed under a name that contains its id: a new build is rolled out, and the previous image keeps a name, to which
# the service can be rolled back. Docker's own PreviousSpec does not help: after scaling, it has the same image.
name_images() {
    local name id tag source is_update=no pinned kept
    local -A next=()
    [ -n "$image_ids" ] || image_ids=$(docker image inspect --format '{{.Id}}' "${services[@]/#/$images/}" "$images/edge")
    while read -r name id; do
        tag=${id:7:12} source=$images/$name
        if [ "$1" = --running-images ] && [ -n "${image[$name]:-}" ]; then tag=${image[$name]##*:} source=${image[$name]}; fi
        next[$name]=$images/$name:$tag
        [ "${next[$name]}" = "${image[$name]:-}" ] || docker tag "$source" "${next[$name]}"
        [ "${image[$name]:-${next[$name]}}" = "${next[$name]}" ] || is_update=yes
        export "HOPS_${name^^}_TAG=$tag"
    done < <(paste -d ' ' <(printf '%s\n' "${services[@]}" edge) <(printf '%s\n' "$image_ids"))
    for name in "${!next[@]}"; do
        [ "$is_update" = no ] || previous["$name"]=${image["$name"]:-}
        export "HOPS_${name^^}_PREVIOUS=${previous[$name]:-}"
    done
    # An older broker cannot read the volume of a newer one, so the deployed broker stays until another one is named.
    pinned=$(sed -n 's/.*RABBITMQ_IMAGE:-\([^}]*\)}.*/\1/p' docker-compose.yml)
    kept=${image[rabbitmq]:-$(cat "$broker_file" 2>/dev/null || echo "$pinned")}
    [ "$1" != --running-images ] || RABBITMQ_IMAGE=${image[rabbitmq]:-}
    [ -n "${RABBITMQ_IMAGE:-}" ] || [ "$kept" = "$pinned" ] ||
        say "the broker stays $kept; to change it permanently: RABBITMQ_IMAGE=$pinned ./deploy.sh"
    export RABBITMQ_IMAGE=${RABBITMQ_IMAGE:-$kept}
    docker image inspect "$RABBITMQ_IMAGE" >/dev/null 2>&1 || docker pull "$RABBITMQ_IMAGE" ||
        fail "$RABBITMQ_IMAGE does not exist and cannot be pulled; the reason is above" \
            "build a broker from Debian's packages with e2e/rabbitmq.sh build, then: RABBITMQ_IMAGE=localhost/hops-rabbitmq:4.3 ./deploy.sh"
}

# Removes the users of the broker that a rotation has replaced, whichever command has come to its end since then.
remove_old_users() {
    local broker name users
    [ -e .secrets/.new_users ] || return 0
    broker=$(container_of rabbitmq)
    users=$(docker exec --user rabbitmq "$broker" rabbitmqctl --quiet --no-table-headers list_users | cut -f 1)
    for name in $users; do
        # Not those that people have made.
        [[ $name =~ ^($(IFS='|' && echo "${services[*]}"))(-[0-9a-f]{8})?$ ]] || continue
        grep -qF "\"name\": \"$name\"" .secrets/rabbitmq-users.json || docker exec --user rabbitmq "$broker" rabbitmqctl --quiet delete_user "$name"
    done
    rm .secrets/.new_users
}

# Each change leaves a config, a secret or an image behind. Removes those to which no service could be rolled back.
remove_old() {
    local name used format kind
    format='{{range .Configs}}{{.ConfigName}} {{end}}{{range .Secrets}}{{.SecretName}} {{end}}{{.Image}} '
    format="{{with .Spec.TaskTemplate.ContainerSpec}}$format{{end}}{{with .PreviousSpec}}{{with .TaskTemplate.ContainerSpec}}$format{{end}}{{end}}"
    used=" $(docker stack services --quiet "$stack" | xargs docker service inspect --format "$format{{index .Spec.Labels \"hops.previous\"}}" | tr '\n' ' ') "
    for kind in config secret; do
        docker "$kind" ls --filter "$of_stack" --format '{{.Name}}' | while read -r name; do
            [[ $used == *" $name "* ]] || docker "$kind" rm "$name" >/dev/null 2>&1 || true
        done
    done
    docker image ls --format '{{.Repository}}:{{.Tag}}' "$images/*" | while read -r name; do
        [[ ! $name =~ :[0-9a-f]{12}$ || $used == *" $name "* ]] || echo "$name"
    done | xargs -r docker image rm >/dev/null 2>&1 || true
}

# --- waiting ---

# A swarm rolls back to what was deployed before: typed again meanwhile, a version that does not start would be that.
wait_for_updates() {
    local until=$((SECONDS + limit)) states
    [ "$is_updating" = yes ] || return 0
    say 'waiting for the update that is under way'
    while true; do
        states=$(docker service ls --quiet --filter "$of_stack" | xargs -r docker service inspect --format '{{with .UpdateStatus}}{{.State}}{{end}}')
        [[ $states =~ updating|rollback_started ]] || return 0
        [ "$SECONDS" -lt "$until" ] || fail "an update is still under way after $limit s: docker service ls and ./deploy.sh status show it"
        sleep 2
    done
}

# change COMMAND...: changes services with a docker command, and waits until all tasks run and are ready, and the ports answer.
change() {
    local since until=$((SECONDS + limit)) code=0 output=/dev/null
    since=$(date -u +%FT%T)
    [ ! -t 1 ] || output=/dev/stdout
    say "waiting for the tasks, at most $limit s (./deploy.sh status shows them)"
    timeout "$limit" docker events --filter "$of_stack" --filter event=die --format \
        '{{.Actor.ID}} {{.Actor.Attributes.exitCode}} {{index .Actor.Attributes "com.docker.swarm.service.name"}}' > >(show_failures) &
    watcher=$!
    timeout --foreground "$limit" docker "$1" "$2" --detach=false "${@:3}" >"$output" || code=$?
    # Docker does not notice that a service has been rolled back while it was waiting for another one.
    if [ "$code" != 0 ] || [ -n "$(rolled_back "$since")" ]; then fail_with_reason "$code" "$since"; fi
    wait_until_ready "$since" "$until"
    stop_watcher
}

# show_failures: reads `CONTAINER EXIT_CODE SERVICE` of tasks that have ended; shows the last lines of each service's first one that
# has failed. Docker starts another one and goes on waiting, and a first start has no old version to which it could be rolled back.
show_failures() {
    local id code name
    local -A shown=()
    while read -r id code name; do
        # Tasks that are too many or old are stopped, and killed if they do not stop.
        if [[ $code =~ ^(0|137|143)$ || -n ${shown[$name]:-} ]]; then continue; fi
        shown[$name]=yes
        say "a task of ${name#"${stack}_"} has failed with exit code $code, and Docker starts another one; its last lines:"
        docker logs --tail 5 "$id" 2>&1 | printable || true
    done
}

stop_watcher() {
    [ -z "$watcher" ] || kill "$watcher" 2>/dev/null || true
    watcher=''
}

# rolled_back SINCE: prints the services whose last update has failed since then, and whether it was rolled back or is paused.
rolled_back() {
    docker service ls --quiet --filter "$of_stack" | xargs -r docker service inspect --format \
        '{{.Spec.Name}} {{with .UpdateStatus}}{{.State}} {{json .StartedAt}}{{end}}' |
        awk -v since="\"$1" '$2 ~ /^(rollback|paused)/ && $3 > since { print $1, $2 }'
}

# wait_until_ready SINCE UNTIL: Docker waits until a task's process is alive, and not until a task that is too many has ended. A task
# is ready when it can do its work, for which it needs the broker.
wait_until_ready() {
    local waiting before='' id name why number containers wanted
    local -A running
    while true; do
        waiting='' running=()
        containers=$(docker ps --filter "$of_stack" --filter label=com.docker.swarm.service.name \
            --format '{{.ID}} {{.Label "com.docker.swarm.service.name"}}')
        wanted=$(docker stack services --format '{{.Name}} {{.Replicas}}' "$stack")
        while read -r id name; do
            [ -n "$id" ] || continue
            name=${name#"${stack}_"} running[$name]=$((${running[$name]:-0} + 1))
            [[ " ${services[*]} " == *" $name "* ]] || continue
            why=$(docker exec "$id" "/$name" healthcheck --ready 2>&1) || waiting+=" $name (${why#error: })"
            case $name in
                accountservice) answers "$HOPS_ACCOUNTSERVICE_PORT" /livez || waiting+=" port $HOPS_ACCOUNTSERVICE_PORT" ;;
                vipservice) answers "$HOPS_VIPSERVICE_PORT" /livez || waiting+=" port $HOPS_VIPSERVICE_PORT" ;;
            esac
        done <<<"$containers"
        while read -r name number _; do
            name=${name#"${stack}_"} number=${number#*/}
            [ -z "$name" ] || [ "${running[$name]:-0}" = "$number" ] || waiting+=" $name (${running[$name]:-0} of $number tasks run)"
        done <<<"$wanted"
        [ -n "$waiting" ] || return 0
        [ "$waiting" = "$before" ] || say "waiting for$(printable <<<"$waiting")"
        before=$waiting
        [ "$SECONDS" -lt "$2" ] || fail_with_reason 124 "$1"
        sleep 1
    done
}

# answers PORT PATH: succeeds if the answer is 200, within three seconds.
answers() (
    exec 2>/dev/null 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
    printf 'GET %s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n' "$2" >&3
    read -r -t 3 -u 3 _ status _ && [ "$status" = 200 ]
)

# fail_with_reason CODE SINCE: shows the newest task that has failed since then, with its last lines.
fail_with_reason() {
    local task container name state
    read -r _ task _ container < <(docker stack ps --quiet --no-trunc "$stack" | xargs -r docker inspect --type task --format \
        '{{json .Status.Timestamp}} {{.ID}} {{.Status.State}} {{with .Status.ContainerStatus}}{{.ContainerID}}{{end}}' |
        awk -v since="\"$2" '$3 ~ /^(failed|rejected)$/ && $1 > since' | sort | tail -n 1) || true
    if [ -n "${task:-}" ]; then
        docker stack ps --no-trunc --format '{{.ID}} {{.Name}}: {{.CurrentState}}: {{.Error}}' "$stack" | sed -n "s/^$task /--- /p" | printable >&2
        [ -z "$container" ] || docker logs --tail 15 "$container" 2>&1 | printable >&2 || true
    fi
    while read -r name state; do
        name=${name#"${stack}_"}
        case $state in
            rollback*) fail "$name: the new version did not start, so the swarm has rolled back to the old one" ;;
            paused) fail "$name: the new version did not start, and the update is paused${image[$name]:+: the version before was ${image[$name]}}" ;;
        esac
    done < <(rolled_back "$2")
    [ "$1" = 124 ] || fail "Docker's reason is above"
    fail "not ready after $limit s: ./deploy.sh status shows everything, HOPS_WAIT=600 waits longer" \
        'if a port does not answer, the kernel may be unable to balance connections: HOPS_IPVS=no ./deploy.sh'
}

# Replaces the control characters that a terminal obeys, line breaks and tabs apart: anybody may have written the text.
printable() { LC_ALL=C sed $'s/\302[\200-\237]/?/g; s/[\001-\010\013-\037\177]/?/g'; }
