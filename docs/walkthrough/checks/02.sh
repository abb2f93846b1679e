#!/usr/bin/env bash
# A read greets the owner of the account: "greeting":"Hello Person_0"
. docs/walkthrough/checks/lib.sh

answer=$(read_vip)
[[ $answer == *'"greeting":"Hello Person_0"'* ]] || not_yet "the answer is $answer"
