#!/usr/bin/env bash
# The account of a VIP cannot be deleted: 409, until a PUT has set vip to false
. docs/walkthrough/checks/lib.sh

# ask METHOD TAG BODY: prints the status of the answer.
ask() {
    curl -sS -o /dev/null -w '%{http_code}' -X "$1" -H "if-match: \"$2\"" -H 'content-type: application/json' -d "$3" \
        "$ACCOUNTSERVICE/accounts/$id"
}

id=$(date +%s%N)
created=$(curl -sS -o /dev/null -w '%{http_code}' -H 'content-type: application/json' -d "{\"id\":\"$id\",\"name\":\"Eve\",\"vip\":true}" \
    "$ACCOUNTSERVICE/accounts")
[ "$created" = 201 ] || not_yet "an account cannot be created: $created"
status=$(ask DELETE 1 '')
[ "$status" = 409 ] || not_yet "DELETE of a VIP's account is answered $status, not 409"
status=$(ask PUT 1 '{"name":"Eve"}')
[ "$status" = 200 ] || not_yet "PUT of the account is answered $status, not 200"
status=$(ask DELETE 2 '')
[ "$status" = 204 ] || not_yet "DELETE of an account that is no VIP's any more is answered $status, not 204"
