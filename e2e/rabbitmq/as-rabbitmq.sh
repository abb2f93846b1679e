#!/bin/sh
# Runs the RabbitMQ program of the same name as user rabbitmq.
# The image contains this script under the name of each program; as `rabbitmq-server` it is the container's entry point.
#
# The command line tools need it, too: a tool that root runs before the node is up creates an Erlang cookie that belongs to
# root, which the node cannot read, so that the node dies.
# RABBITMQ_DEFAULT_USER, _PASS and _VHOST are not mentioned here, because the server reads them itself.
set -eu
program=$(basename "$0")
if [ "$(id -u)" != 0 ]; then
    exec "/usr/lib/rabbitmq/bin/$program" "$@"
fi
if [ "$program" = rabbitmq-server ]; then
    # Erlang sizes a table by the limit on open files, which is a billion under some container engines.
    # shellcheck disable=SC3045 # dash, which is Debian's sh, knows -n
    ulimit -n 65536 2>/dev/null || true
    # A mounted folder, or a volume that another image has created, may belong to another user.
    find /var/lib/rabbitmq ! -user rabbitmq -exec chown rabbitmq:rabbitmq {} +
fi
exec setpriv --reuid=rabbitmq --regid=rabbitmq --init-groups "/usr/lib/rabbitmq/bin/$program" "$@"
