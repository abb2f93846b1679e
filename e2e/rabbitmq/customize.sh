#!/bin/sh
# Runs as mmdebstrap's last hook: turns a Debian system with RabbitMQ into the broker's root file system.
# usage: RABBITMQ_VERSION=4.3 customize.sh ROOT
set -eu
root=$1
here=$(cd "$(dirname "$0")" && pwd)

found=$(dpkg-query --admindir="$root/var/lib/dpkg" --showformat='${Version}' --show rabbitmq-server)
case $found in
    "$RABBITMQ_VERSION".*) echo "rabbitmq-server $found" ;;
    *) echo "this Debian release has rabbitmq-server $found instead of $RABBITMQ_VERSION" >&2; exit 1 ;;
esac

install -D -m 0644 "$here/10-defaults.conf" "$root/etc/rabbitmq/conf.d/10-defaults.conf"
install -m 0644 "$here/advanced.config" "$root/etc/rabbitmq/advanced.config"
echo '[rabbitmq_management,rabbitmq_prometheus].' > "$root/etc/rabbitmq/enabled_plugins"

install -m 0755 "$here/as-rabbitmq.sh" "$root/usr/local/bin/rabbitmq-server"
# rabbitmq-plugins is not among them: Debian's own wrapper knows where the plugins are.
for program in rabbitmqctl rabbitmq-diagnostics rabbitmq-queues rabbitmq-streams rabbitmq-upgrade; do
    ln -s rabbitmq-server "$root/usr/local/bin/$program"
done

# A node creates these at its first start, and no two containers may share them.
rm -rf "$root"/var/lib/rabbitmq/.erlang.cookie "$root"/var/lib/rabbitmq/mnesia "$root"/var/lib/apt/lists/*
chroot "$root" chown -R rabbitmq:rabbitmq /etc/rabbitmq /var/lib/rabbitmq /var/log/rabbitmq
