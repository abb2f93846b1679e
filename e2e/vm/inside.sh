#!/usr/bin/env bash
# Runs in the virtual machine of e2e/vm.sh: the stack with the ports of the ingress mesh, beside a registry that never answers, the
# lesson on round-robin, and a rolling update under light load; then reads until the machine loses its power. Lines that begin with
# vm: have the seconds since the machine was switched on.
set -uo pipefail

say() { printf 'vm: %4s s  %s\n' "$(cut -d . -f 1 /proc/uptime)" "$*"; }
held() { say "$1"; }
broken() { say "DID NOT HOLD: $1"; docker service ls; docker service ls --quiet | xargs docker service ps --no-trunc; exit 1; }
read_account() { curl "$@" --silent --max-time 30 --output /dev/null --write-out '%{http_code}\n' 127.0.0.1:6767/accounts/10000; }
offers() { curl --silent --max-time 30 127.0.0.1:6868/offers/by-replica; }

say "Docker Engine $(docker version --format '{{.Server.Version}}'), kernel $(uname -r)"
docker load --quiet --input /work/images.tar >/dev/null || broken 'the images are loaded'
cp -r /work/hops /root/hops
cd /root/hops || exit
# shellcheck source=/dev/null
. /work/environment
# Here each check of a container's health and each docker command takes about a second of a processor. At the pace of
# docker-compose.yml they would leave no time for what they wait for.
sed -i -E 's/interval: 3s/interval: 15s/; s/timeout: [38]s/timeout: 60s/; s/retries: [56]/retries: 60/; /start_period:/d' docker-compose.yml
# docker's commands end before they would have to collect garbage.
export HOPS_WAIT=600 GOGC=off NO_COLOR=1

# Docker Hub is here, and never answers: this device drops what is sent to it, and counts it.
ip link add hub type dummy
sysctl -q net.ipv6.conf.hub.disable_ipv6=1
ip link set hub up
ip route add 192.0.2.0/24 dev hub
echo 192.0.2.1 docker.io index.docker.io auth.docker.io registry-1.docker.io >>/etc/hosts
asked_hub() { cat /sys/class/net/hub/statistics/tx_packets; }

# Through a pipe: on a console Docker shows its progress.
./deploy.sh | cat || broken './deploy.sh'
held './deploy.sh: everything is ready'
docker service ls --format '{{.Name}} {{.Replicas}} {{.Ports}}'
docker service ls --format '{{.Ports}}' | grep -q '\*:6767->6767/tcp' || broken 'the ingress mesh publishes port 6767'
[ -z "$(docker service ls --quiet --filter name=hops_edge)" ] || broken 'with IPVS there is no task edge'

./deploy.sh scale vipservice=3 | cat || broken './deploy.sh scale vipservice=3'
for _ in 1 2 3 4 5 6; do code=$(read_account); [ "$code" = 200 ] || broken "a read is answered, but with $code"; done
for _ in {1..60}; do [ "$(offers)" != '{"vipservice.1":2,"vipservice.2":2,"vipservice.3":2}' ] || break; sleep 1; done
[ "$(offers)" = '{"vipservice.1":2,"vipservice.2":2,"vipservice.3":2}' ] || broken "six reads are two offers for each of three: $(offers)"
held "six reads for three: $(offers)"
curl --silent --max-time 10 --output /dev/null 'http://[::1]:6767/livez'
[ $? = 28 ] || broken 'over IPv6 the ports accept connections and do not answer, which docs/OPERATIONS.md warns of'

[ "$(asked_hub)" = 0 ] || broken 'a deployment and a start of tasks ask no registry'
timeout 20 docker pull --quiet hello-world >/dev/null 2>&1
[ "$(asked_hub)" != 0 ] || broken 'a pull asks the registry that never answers'
held 'a registry that never answers was not asked'

codes=$(mktemp)
enough=$(mktemp --dry-run)
until [ -e "$enough" ]; do sleep 1; read_account; done >"$codes" &
load=$!
for service in accountservice vipservice; do
    docker service update --quiet --detach=false --force "hops_$service" >/dev/null || broken "$service is replaced"
    held "$service is replaced, one task after the other"
done
# The last read is to be counted, too.
touch "$enough"
wait "$load"
say "reads meanwhile: $(sort "$codes" | uniq -c | tr -s ' \n' ' ')"
[ "$(sort -u "$codes")" = 200 ] || broken 'every read during the updates is answered'
reads=$(($(wc -l <"$codes") + 6))
total() { local sum=0 n; for n in $(offers | grep -o ':[0-9]*' | tr -d :); do sum=$((sum + n)); done; echo "$sum"; }
for _ in {1..120}; do [ "$(total)" -lt "$reads" ] || break; sleep 1; done
[ "$(total)" = "$reads" ] || broken "$reads reads are $reads offers, not $(total)"
held "$reads reads, $(total) offers"

# The broker is gone, so each answered read is in an outbox; and reads go on until the power is cut. The file beside the volumes is
# written and never synced: it shows what a power loss takes.
docker service scale --detach hops_rabbitmq=0 >/dev/null || broken 'the broker is taken away'
until [ -z "$(docker ps --quiet --filter name=hops_rabbitmq)" ]; do sleep 1; done
say 'all of it held; reads until the power is cut'
echo 'vm: all of it held'
read_until_the_end() {
    local n
    for n in {1..100000}; do
        echo "vm: sent power-$1-$n"
        [ "$(read_account --header "x-request-id: power-$1-$n")" != 200 ] || echo "vm: answered power-$1-$n" | tee -a /var/lib/docker/volumes/unsynced
    done
}
for reader in 1 2 3 4; do read_until_the_end "$reader" & done
wait
