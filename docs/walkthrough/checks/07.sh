#!/usr/bin/env bash
# In order_events, a fifth service, fraud, receives what has to do with payments
. docs/walkthrough/checks/lib.sh

printed=$("$CARGO" run --quiet --bin order_events)
grep -qx 'fraud received payment.processed' <<<"$printed" || not_yet "it does not receive payment.processed: cargo run --bin order_events"
[ "$(wc -l <<<"$printed")" = 7 ] || not_yet "seven messages are to be received: cargo run --bin order_events"
