#!/usr/bin/env bash
# A setting of your own, offer_greeting, has a value in config-repo, and offers begin with it
. docs/walkthrough/checks/lib.sh

setting='"offer_greeting":{"value":"[^"]*","origin":"file:'
found=$(curl -sS "$VIPSERVICE/settings" | grep -o "$setting") || not_yet "the vipservice has no offer_greeting from config-repo: curl localhost:6868/settings"
greeting=$(cut -d'"' -f 6 <<<"$found")
[ -n "$greeting" ] || not_yet "offer_greeting is empty"
read_vip >/dev/null
offer=$(offer)
[[ $offer == *"\"text\":\"$greeting"* ]] || not_yet "$offer"
