#!/usr/bin/env bash
# A service that is stopped logs how long that took, as in "stopped after 3.1s"
. docs/walkthrough/checks/lib.sh

started=$(date -u +%FT%TZ)
process=$(tasks vipservice | head -n 1 | grep -oE '"pid":[0-9]+' | tr -dc 0-9)
kill "$process"
for _ in {1..150}; do
    if hops service logs --since "$started" vipservice | grep -qE 'stopped after [0-9.]+m?s'; then
        hops wait ready vipservice >/dev/null
        exit 0
    fi
    sleep 0.1
done
not_yet "it logged no such line: cargo hops service logs --since 1m vipservice"
