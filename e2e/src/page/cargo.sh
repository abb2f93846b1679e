#!/bin/sh
# `cargo` as a page types it: the programs are built already, and listen where nobody else does.

# A folder of all programs, once one is built on the page.
programs=$(dirname "$0")/../programs
[ ! -d "$programs" ] || HOPS_BIN_DIR=$programs

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
'run --bin')
    program=$3
    shift 3
    [ "$1" != -- ] || shift
    exec "$EXAMPLES/$program" "$@"
    ;;
'build -p' | 'test -p')
    # What Cargo.lock names is here already.
    "$CARGO" "$@" --offline || exit
    [ "$1" = build ] || exit 0
    [ -d "$programs" ] || { mkdir "$programs" && ln -s "$HOPS_BIN_DIR"/* "$programs"; }
    cp -f "$CARGO_TARGET_DIR/debug/$3" "$programs"
    ;;
*)
    echo "a page is played on what is built already, so not: cargo $*" >&2
    exit 1
    ;;
esac
