#!/usr/bin/env bash
# /offers/count answers {"count":N}, the same N that /offers/by-replica has in sum
. docs/walkthrough/checks/lib.sh

read_vip >/dev/null
offer >/dev/null
answer=$(curl -sS "$VIPSERVICE/offers/count")
sum=$(curl -sS "$VIPSERVICE/offers/by-replica" | grep -oE ':[0-9]+' | tr -d ':' | awk '{ sum += $1 } END { print sum + 0 }')
[ "$answer" = "{\"count\":$sum}" ] || not_yet "there are $sum offers, and the answer is $answer"
