#!/usr/bin/env bash
# The stack has three vipservices from the start
. docs/walkthrough/checks/lib.sh

[ "$(tasks vipservice | wc -l)" = 3 ] || not_yet "$(tasks vipservice | wc -l) are ready: cargo hops service ls"
grep -q 'HOPS_VIPSERVICE_REPLICAS:-3' docker-compose.yml || not_yet "docker-compose.yml does not say so"
