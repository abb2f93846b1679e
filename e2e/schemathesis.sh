#!/usr/bin/env bash
# Sends the three services what docs/contracts/openapi.yaml allows and what it does not, and compares their answers with it: with
# schemathesis, in sequences, too, such as a read of what was deleted.
#
#   e2e/schemathesis.sh [EXAMPLES]     the number of generated requests for each operation (30)
#
# Needs Python 3.10 or later and a package registry; builds the services and the development broker.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
examples=${1:-30}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
python=$target/tmp/schemathesis/bin/python
work=$(mktemp -d)
pids=()
trap '[ ${#pids[@]} = 0 ] || kill "${pids[@]}"; rm -rf "$work"' EXIT
fail() { printf 'schemathesis.sh: %s\n' "$*" >&2; exit 1; }

# start NAME SCHEME COMMAND...: in the background, until it prints its address, which is then in $address.
start() {
    local name=$1 scheme=$2
    shift 2
    "$@" >"$work/$name.log" 2>&1 &
    pids+=($!)
    for _ in {1..300}; do
        address=$(grep -oE "$scheme://127[0-9.:]+" "$work/$name.log" | head -n 1) || true
        [ -z "$address" ] || return 0
        sleep 0.1
    done
    cat "$work/$name.log"
    fail "$name does not start"
}

# of SERVICE ADDRESS: what the document says of a service that is at this address.
of() {
    "$python" - "$1" "$2" <<'PYTHON'
import json, sys, yaml

service, address = sys.argv[1:]
with open("docs/contracts/openapi.yaml", encoding="utf-8") as file:
    document = yaml.safe_load(file)
paths = {}
for path, item in document["paths"].items():
    item.pop("servers", None)
    kept = {key: value for key, value in item.items() if not isinstance(value, dict) or service in value.get("tags", [])}
    if any(isinstance(value, dict) for value in kept.values()):
        paths[path] = kept
document.update(paths=paths, servers=[{"url": address}])
json.dump(document, sys.stdout, default=str)
PYTHON
}

e2e/pika/environment.sh "$target/tmp/schemathesis" e2e/schemathesis/requirements.txt
cargo build --quiet --locked -p devbroker -p accountservice -p vipservice -p configserver
start devbroker amqp "$target/debug/devbroker" --in-memory --port 0 --admin-port 0
flags=(--profile dev --amqp-server-url "$address" --log-format text --server-port 0)
for service in accountservice vipservice configserver; do
    more=()
    case $service in
        accountservice) more=(--data-dir "$work" --outbox-max 1000000 --outbox-sync os) ;;
        configserver)
            more=(--config-repo config-repo)
            # Without a key its routes of encryption answer 500, as Spring's do.
            export APP_ENCRYPT_KEY=not-a-secret ;;
    esac
    start "$service" http "$target/debug/$service" "${flags[@]}" "${more[@]}"
    for _ in {1..300}; do ! curl --silent --fail --output /dev/null "$address/readyz" || break; sleep 0.1; done
    of "$service" "$address" >"$work/$service.json"
    echo "--- $service"
    # Not that each valid request is answered 2xx: a condition may not hold, and a key may be another request's. OPTIONS is answered for
    # any address.
    "$target/tmp/schemathesis/bin/st" run "$work/$service.json" --url "$address" --max-examples "$examples" --no-color \
        --exclude-method OPTIONS --exclude-checks positive_data_acceptance --generation-deterministic \
        --phases examples,coverage,fuzzing,stateful || fail "$service does not answer as docs/contracts/openapi.yaml says"
done
