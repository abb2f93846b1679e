#!/bin/sh
# Runs RabbitMQ's own program of the same name as user rabbitmq.
# The image has it under the name of each of them, `rabbitmq-server` included, which makes it the container's entry point.
#
# Why the command line tools too: one that root runs before the node is up makes root's Erlang cookie,
# which the node then cannot read, and the node dies.
# RABBITMQ_DEFAULT_USER, _PASS and _VHOST are not mentioned here: the server reads them itself.
set -eu
program=$(basename "$0")
if [ "$(id -u)" != 0 ]; then
    exec "/usr/lib/rabbitmq/bin/$program" "$@"
fi
if [ "$program" = rabbitmq-server ]; then
    # Erlang sizes a table by the limit on open files, which is a thousand million under some container engines.
    # shellcheck disable=SC3045 # dash, which is Debian's sh, knows -n
    ulimit -n 65536 2>/dev/null || true
    # A mounted folder or a volume made by another image has another owner.
    find /var/lib/rabbitmq ! -user rabbitmq -exec chown rabbitmq:rabbitmq {} +
fi
exec setpriv --reuid=rabbitmq --regid=rabbitmq --init-groups "/usr/lib/rabbitmq/bin/$program" "$@"
