#!/usr/bin/env bash
# The notification of a request whose id begins with "drill-" becomes a dead letter, with the reason "it is a drill"
. docs/walkthrough/checks/lib.sh

request=drill-$request
read_vip >/dev/null
for _ in {1..50}; do
    logged=$(hops service logs --request "$request" vipservice 2>/dev/null) || true
    [[ $logged != *"moved to vip_queue.dead: it is a drill"* ]] || exit 0
    [[ $logged != *hop=9* ]] || not_yet "it became an offer: cargo hops service logs --request $request"
    sleep 0.1
done
not_yet "it is not there after 5 s: cargo hops service logs --request $request"
