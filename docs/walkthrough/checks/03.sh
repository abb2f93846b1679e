#!/usr/bin/env bash
# A notification has the name of the account in its header x-account-name
. docs/walkthrough/checks/lib.sh

# Without a consumer it stays in the queue, where it can be looked at.
replicas=$(tasks vipservice | wc -l)
trap 'hops service scale "vipservice=$replicas" >/dev/null' EXIT
hops service scale vipservice=0 >/dev/null
read_vip >/dev/null
hops wait queue vip_queue=1 >/dev/null
headers=$(hops queues peek vip_queue)
grep -q 'x-account-name: Person_0' <<<"$headers" || not_yet "there is no such header: cargo hops queues peek vip_queue"
