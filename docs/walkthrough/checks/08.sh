#!/usr/bin/env bash
# rpc_client prints who has answered, as in "fib(30) = 832040, from server 4711"
. docs/walkthrough/checks/lib.sh

"$CARGO" build --quiet --package examples --bins
"$CARGO" run --quiet --bin rpc_server >/dev/null & servers=($!)
"$CARGO" run --quiet --bin rpc_server >/dev/null & servers+=($!)
trap 'kill "${servers[@]}"; wait' EXIT
for _ in {1..10}; do
    answers=$("$CARGO" run --quiet --bin rpc_client 5 6 7 8 2>&1) || true
    [ "$(grep -oE ', from server [0-9]+$' <<<"$answers" | sort -u | wc -l)" != 2 ] || exit 0
    sleep 0.1
done
not_yet "of two servers, each is to answer two of four questions, and it printed: $answers"
