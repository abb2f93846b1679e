#!/usr/bin/env bash
# Checks what the chapters let a reader change, in a clone: the solutions of "Now change it", and what `cargo hops break` takes away.
#
#   e2e/exercises.sh compile    each patch fits the source, and with all solutions it compiles
#   e2e/exercises.sh            each exercise is found to be not done, and done with its solution alone; with each guarantee that is
#                               taken away `verify` finds what it should, and nothing else; the chapter that changes the message does
#                               what it prints
set -euo pipefail

cd "$(dirname "$0")/.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
git clone --quiet . "$scratch/clone"
cd "$scratch/clone"
solutions=(docs/walkthrough/solutions/*.patch)

# Cargo would take our crates, compiled with these changes, for those of any other checkout with older files. With a version of their
# own they are others, and what they depend on is compiled already.
compile() {
    local patch
    sed -i '/^\[workspace.package\]/,/^\[/s/^version = .*/version = "0.0.0-exercises"/' Cargo.toml
    for patch in docs/walkthrough/faults/*.patch; do git apply --check "$patch"; done
    git apply --check docs/walkthrough/changes/*.patch
    git apply "${solutions[@]}"
    CARGO_TARGET_DIR=$target cargo check --quiet --workspace --offline
}

# What runs is changed to what the source says, after a change of these files.
roll_out() {
    case $1 in
        *docker-compose.yml*) cargo hops down && cargo hops up -d ;;
        *accountservice/*) cargo hops update accountservice ;;
        examples/*) ;;
        *) cargo hops update vipservice ;;
    esac >"$scratch/said" 2>&1 || { cat "$scratch/said"; return 1; }
}

check_solutions() {
    local patch chapter
    for patch in "${solutions[@]}"; do
        chapter=$(basename "$patch" | sed 's/^0*\([0-9]*\)-.*/\1/')
        ! cargo hops check "$chapter" || { echo "chapter $chapter is done without its solution"; return 1; }
        git apply "$patch"
        roll_out "$(git diff --name-only)"
        cargo hops check "$chapter"
        git checkout --quiet .
        echo "--- $patch: $SECONDS s"
    done
    cargo hops down --all >/dev/null
    cargo hops up -d >/dev/null
}

# Runs the commands that `break` names, the last of which is a `verify`: `none` or `some` are lost, and so many are duplicated.
verify_prints() {
    local commands=$3 seen lost duplicates
    # shellcheck disable=SC2086 # words of a command, without quotes
    while read -r command; do
        seen=$($command </dev/null) || true
    done <<<"$commands"
    seen=$(tail -n 1 <<<"$seen")
    echo "$seen"
    lost=${seen##*LOST } duplicates=${seen##*duplicates }
    [ "$(some "$lost") $(some "${duplicates%% *}")" = "$1 $2" ] || { echo "LOST: $1, duplicates: $2 was expected"; return 1; }
}

some() { [ "$1" = 0 ] && echo none || echo some; }

check_guarantees() {
    local name commands
    for name in auto-ack no-outbox no-dedupe; do
        commands=$(sed -n 's/^    \(cargo hops \)/\1/p' "docs/walkthrough/faults/$name.patch")
        verify_prints none none "$(tail -n 1 <<<"$commands")"
        cargo hops break "$name"
        case $name in
            no-dedupe) verify_prints none some "$commands" ;;
            *) verify_prints some none "$commands" ;;
        esac
        cargo hops mend
        git diff --exit-code
        cargo hops update accountservice vipservice >/dev/null
        echo "--- $name: $SECONDS s"
    done
}

# The blocks `sh` of a page, each of which prints the lines of the block `text` after it.
play() {
    local step
    awk -v folder="$scratch" '
        /^```sh$/ { n++; file = sprintf("%s/%02d.sh", folder, n); next }
        /^```text$/ { file = sprintf("%s/%02d.text", folder, n); next }
        /^```/ { file = "" }
        file { print > file }' "$1"
    for step in "$scratch"/??.sh; do
        sed -i -e "s/localhost:6868/localhost:$((HOPS_PORT_BASE + 6868))/" \
            -e "s,cargo run -p,APP_AMQP_SERVER_URL=amqp://localhost:$((HOPS_PORT_BASE + 5672)) &," "$step"
        bash -euo pipefail "$step" >"$scratch/said" 2>&1 || { cat "$scratch/said"; return 1; }
        [ -e "${step%.sh}.text" ] || continue
        sed "s/localhost:6767/localhost:$((HOPS_PORT_BASE + 6767))/" "${step%.sh}.text" | while read -r line; do
            grep -qxF -- "$line" "$scratch/said" || { cat "$step" "$scratch/said"; echo "$1 prints: $line"; return 1; }
        done
    done
    echo "--- $1: $SECONDS s"
}

case "${1:-}" in
    compile) compile ;;
    '')
        export HOPS_PORT_BASE=${HOPS_PORT_BASE:-9000} CARGO_TARGET_DIR=$target/exercises
        trap 'cargo hops down --all; rm -rf "$scratch"' EXIT
        cargo hops up -d
        check_solutions
        check_guarantees
        cargo hops down --all >/dev/null
        play "docs/walkthrough/15-change-a-message.md"
        git diff --exit-code
        ;;
    *) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac
