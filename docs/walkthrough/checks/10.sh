#!/usr/bin/env bash
# An offer_text in capital letters only is refused while the vipservice runs, and the old text stays
. docs/walkthrough/checks/lib.sh

file=config-repo/vipservice-test.yml
before=$(cat "$file"; echo x)
trap 'printf %s "${before%x}" >"$file"' EXIT
echo 'offer_text: BUY NOW' >>"$file"
if hops wait setting vipservice 'offer_text=BUY NOW' --timeout 5 >/dev/null 2>&1; then
    not_yet "BUY NOW was taken"
fi
hops service logs --since 10s vipservice | grep -q 'WARN.*offer_text' || not_yet "nothing in the log says that it was refused: cargo hops service logs vipservice"
read_vip >/dev/null
offer=$(offer)
[[ $offer != *"BUY NOW"* ]] || not_yet "$offer"
