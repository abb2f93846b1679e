#!/usr/bin/env bash
# Checks what the virtual machine of e2e/vm.sh has left on its disk when it lost its power: A is a subset of O is a subset of S (see
# docs/GUARANTEES.md), with the two outboxes of the disk, and a broker and a vipservice as processes of this machine.
#
#   e2e/vm/after-power-loss.sh FOLDER     the folder with the log and data.img, the disk of the volumes
set -euo pipefail

vm=$1
data=$vm/data
pids=()
trap '[ ${#pids[@]} = 0 ] || kill "${pids[@]}"' EXIT
fail() { printf 'after-power-loss.sh: %s\n' "$*" >&2; exit 1; }

# ids WORD: of the reads that the machine has printed with it, as far as the line is whole.
ids() { tr -d '\r' <"$vm/log" | sed -n "s/^vm: $1 \(power-[1-4]-[0-9]*\)\$/\1/p" | sort -u; }

# until WHAT COMMAND...: for a minute.
until_true() {
    local what=$1
    shift
    for _ in {1..600}; do ! "$@" || return 0; sleep 0.1; done
    fail "not seen in a minute: $what"
}

# The file system's own journal is read first, as at the next start of the machine.
e2fsck -fy "$vm/data.img" >"$vm/e2fsck.log" 2>&1 || [ $? -le 2 ] || { cat "$vm/e2fsck.log"; fail 'the file system cannot be repaired'; }
rm -rf "$data"
mkdir "$data"
debugfs -R "rdump / $data" "$vm/data.img" 2>/dev/null
unsynced=$(sort -u "$data/unsynced" 2>/dev/null | wc -l)

cargo build --quiet --locked -p devbroker -p accountservice -p vipservice
bin=${CARGO_TARGET_DIR:-target}/debug
"$bin/devbroker" --in-memory --port 0 --admin-port 0 >"$vm/devbroker.log" 2>&1 &
pids+=($!)
until_true 'the broker listens' grep -sq 'amqp://127' "$vm/devbroker.log"
broker=$(grep -o 'amqp://127[0-9.:]*' "$vm/devbroker.log" | head -n 1)
settings=(--profile dev --amqp-server-url "$broker" --log-format text)
"$bin/vipservice" "${settings[@]}" --server-port 0 --data-dir "$vm/vipservice" >"$vm/vipservice.log" 2>&1 &
pids+=($!)
until_true 'the vipservice listens' grep -sq 'listening on' "$vm/vipservice.log"
offers=$(grep -o 'http://127[0-9.:]*' "$vm/vipservice.log" | head -n 1)/offers
for n in 1 2; do
    INSTANCE_NAME=accountservice.$n "$bin/accountservice" "${settings[@]}" --data-dir "$data/hops-accountservice-$n/_data" outbox drain
done

offered() { curl --silent "$offers?limit=1000" | { grep -o '"requestId":"power-[^"]*"' || true; } | cut -d '"' -f 4 | sort; }
has_all() { [ -z "$(comm -23 <(ids answered) <(offered))" ]; }
for _ in {1..100}; do ! has_all || break; sleep 0.1; done
lost=$(comm -23 <(ids answered) <(offered))
unsent=$(comm -23 <(offered) <(ids sent))
twice=$(offered | uniq -d)
echo "power loss: reads sent $(ids sent | wc -l) - answered $(ids answered | wc -l) - offers $(offered | wc -l) - LOST $(printf '%s' "$lost" | grep -c . || true); \
of as many lines that were not synced, $unsynced were left"
[ -z "$lost" ] || fail "answered and lost: $lost"
[ -z "$unsent" ] || fail "offers that nobody has asked for: $unsent"
[ -z "$twice" ] || fail "offers that appear twice: $twice"
[ "$unsynced" -lt "$(ids answered | wc -l)" ] || fail 'nothing that was not synced is gone, so the power loss has shown nothing'
