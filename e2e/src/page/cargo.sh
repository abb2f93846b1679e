#!/bin/sh
# `cargo` as a page types it: the programs are built already, and listen where nobody else does.
case "$1 $2" in
'hops '*)
    shift
    exec "$HOPS_BIN_DIR/hops" "$@"
    ;;
'run -p')
    program=$3
    shift 3
    [ "$1" != -- ] || shift
    export APP_LOG_FORMAT=text APP_AMQP_SERVER_URL="amqp://localhost:$((HOPS_PORT_BASE + 5672))"
    case $program in
    accountservice) export APP_SERVER_PORT=$((HOPS_PORT_BASE + 6767)) ;;
    vipservice) export APP_SERVER_PORT=$((HOPS_PORT_BASE + 6868)) ;;
    devbroker) set -- "$@" --port $((HOPS_PORT_BASE + 5672)) --admin-port $((HOPS_PORT_BASE + 15673)) ;;
    esac
    exec "$HOPS_BIN_DIR/$program" "$@"
    ;;
*)
    echo "a page is played without builds, so not: cargo $*" >&2
    exit 1
    ;;
esac
