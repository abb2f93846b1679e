#!/usr/bin/env bash
# Creates what is missing of the stack's secrets; prints none of them.
#
#   tools/stack/secrets.sh                    create what is missing
#   tools/stack/secrets.sh new amqp           replace the users of the broker and their passwords
#   tools/stack/secrets.sh new management     replace the token of the operators' routes
#   tools/stack/secrets.sh new encrypt        add a key for the encrypted values of config-repo; the old ones stay readable
#
#   HOPS_SECRETS_FOLDER   their folder (.secrets of this checkout)
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."
. tools/stack/machine.sh
folder=${HOPS_SECRETS_FOLDER:-.secrets}

main() {
    local name generation
    umask 077
    mkdir -p "$folder"
    case "$*" in
        '') ;;
        'new management') keep management_token random ;;
        # Users with other names, so that the old version of a service can work until it is replaced.
        'new amqp')
            generation=$(random | cut -c 1-8)
            keep amqp_password random
            for name in "${services[@]}"; do
                keep "${name}_amqp_username" printf %s "$name-$generation"
                keep "${name}_amqp_password" random
            done ;;
        'new encrypt')
            need encrypt_key random
            keep encrypt_key add_key ;;
        *) fail "secrets.sh takes 'new amqp', 'new management' or 'new encrypt', but got '$*'" ;;
    esac
    # The first user is for people; each service has one of its own.
    need amqp_username printf hops
    need amqp_password random
    for name in "${services[@]}"; do
        need "${name}_amqp_username" printf %s "$name"
        need "${name}_amqp_password" random
    done
    need management_token random
    need encrypt_key random
    rabbitmq_users >"$folder/.users.new"
    # deploy.sh removes the broker's old users when the new ones are in use.
    cmp -s "$folder/.users.new" "$folder/rabbitmq-users.json" || : >"$folder/.new_users"
    mv "$folder/.users.new" "$folder/rabbitmq-users.json"
}

# need NAME COMMAND...: stores the output of the command as a secret, unless there is one.
need() { [ -s "$folder/$1" ] || keep "$@"; }

# keep NAME COMMAND...: writes the output to a file completely or, if interrupted, not at all.
keep() {
    local name=$1
    shift
    "$@" >"$folder/.$name.new"
    mv "$folder/.$name.new" "$folder/$name"
}

# Prints the keys with a new one, a line `NAME:PASSWORD`, at their end.
add_key() { printf '%s\n%s:%s\n' "$(<"$folder/encrypt_key")" "$(random | cut -c 1-8)" "$(random)"; }

# Prints rabbitmq-users.json with the names of the users, and the hashes of their passwords.
rabbitmq_users() {
    local name users
    users=$(<rabbitmq-users.json)
    for name in "${services[@]}"; do users=${users//"\"$name\""/"\"$(<"$folder/${name}_amqp_username")\""}; done
    for name in amqp_password "${services[@]/%/_amqp_password}"; do
        users=${users/"\"password_hash\": \"$name\""/"\"password_hash\": \"$(password_hash "$(<"$folder/$name")")\""}
    done
    printf '%s\n' "$users"
}

# Prints a password as RabbitMQ stores it: the base64 of a salt of four bytes and of the SHA-256 of salt and password
# (https://www.rabbitmq.com/docs/passwords). The salt follows from the password, so that the same file comes out each time.
password_hash() {
    local salt
    salt=$(printf 'salt %s' "$1" | sha256sum | cut -c 1-8)
    bytes "$salt$({ bytes "$salt"; printf %s "$1"; } | sha256sum | cut -c 1-64)" | base64 | tr -d '\n'
}

# Prints the bytes that these hexadecimal digits stand for.
# shellcheck disable=SC2001 # bash knows & in a replacement since 5.2 only
bytes() { printf %b "$(sed 's/../\\x&/g' <<<"$1")"; }

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

main "$@"
