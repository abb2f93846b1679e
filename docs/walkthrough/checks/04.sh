#!/usr/bin/env bash
# The text of an offer ends with "(for account 10000)"
. docs/walkthrough/checks/lib.sh

read_vip >/dev/null
offer=$(offer)
[[ $offer == *'(for account 10000)"'* ]] || not_yet "$offer"
