#!/usr/bin/env bash
# For the checks, which `cargo hops check` runs in the root with the addresses of the services, such as $VIPSERVICE.

not_yet() {
    printf '%s\n' "$*" >&2
    exit 1
}

hops() { "$HOPS" "$@"; }

# The id of the request that a check makes.
request=check-$(date +%s%N)

# Reads the VIP's account, and prints the answer.
read_vip() { curl -sS -H "x-request-id: $request" "$ACCOUNTSERVICE/accounts/10000"; }

# Prints the offer that the request has led to.
offer() {
    local id
    for _ in {1..100}; do
        id=$(hops service logs --request "$request" vipservice 2>/dev/null | sed -n 's/.*hop=9 .*offer \([^ ]*\) for account.*/\1/p') || true
        [ -z "$id" ] || ! curl -sS --fail "$VIPSERVICE/offers/$id" 2>/dev/null || return 0
        sleep 0.1
    done
    not_yet "no offer after 10 s: cargo hops service logs --request $request (is a vipservice paused? cargo hops service ps vipservice)"
}

# Prints the JSON of a service's tasks that run.
tasks() { hops --json service ps "$1" | grep '"phase":"ready"' || true; }
