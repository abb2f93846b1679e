//! Each error is one clear sentence that says what to do, and programs that use the system's client reconnect.

use e2e::{
    broker::{PrivateBroker, Shortage, free_port},
    proxy::Proxy,
    wait::{PATIENCE, until_true},
};
use futures_util::future::join_all;
use lapin::types::FieldTable;

use crate::kit::{Place, fail_at, program, start_at, start_with_port_base};

/// One program that uses lapin directly, and one that uses the system's client.
const PROGRAMS: [&str; 2] = [program!("send"), program!("worker")];
/// One sending program for each of the two clients, with its queue.
const PROGRAMS_THAT_SEND: [(&str, &str); 2] =
    [(program!("send"), "hello"), (program!("new_task"), "task_queue")];

#[tokio::test]
async fn a_missing_broker_is_named_with_the_command_that_starts_one() {
    for program in PROGRAMS {
        let amqp = format!("amqp://127.0.0.1:{}", free_port());
        let (code, error) = fail_at(&amqp, program, "").await;
        assert_eq!(code, 1);
        assert!(
            error.starts_with(&format!("error: no broker at {amqp}: `cargo hops up -d` starts one")),
            "{error}"
        );
    }
}

/// Returns the number to add to 5672 for this broker's port.
pub(crate) fn port_base(broker: &PrivateBroker) -> String {
    (broker.vhost().address().port() - 5672).to_string()
}

#[tokio::test]
async fn the_default_address_is_the_broker_of_cargo_hops() {
    let broker = PrivateBroker::start().await;
    for (program, queue) in PROGRAMS_THAT_SEND {
        let mut program = start_with_port_base(&port_base(&broker), program, "");
        assert_eq!(program.0.exit_code().await, Some(0), "{}", program.errors());
        assert_eq!(broker.vhost().ready(queue).await, Some(1));
    }
    let mut program = start_with_port_base("many", program!("send"), "");
    assert_eq!(program.0.exit_code().await, Some(1));
    assert!(program.errors().contains("HOPS_PORT_BASE: `many` is not a number from 0 to 50000"));
}

#[tokio::test]
async fn a_refused_login_has_an_error_of_its_own() {
    let place = Place::new().await;
    for program in PROGRAMS {
        let amqp = place.vhost.amqp_url().replace("amqp://", "amqp://guest:hunter2@");
        let (code, error) = fail_at(&amqp, program, "").await;
        assert_eq!(code, 1);
        assert!(error.contains("refuses the login: write user and password into the address"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn programs_wait_for_a_blocked_broker_no_longer_than_the_limit() {
    let broker = PrivateBroker::start().await;
    broker.starve(Shortage::Memory).await;
    let (vhost, limit) = (broker.vhost(), "the broker has not answered within 10 s");
    let programs = [
        (program!("send"), "", limit),
        (program!("new_task"), "", limit),
        (program!("emit_log_topic"), "stock.us.nyse up", limit),
        (program!("stream_append"), "", limit),
        (program!("order_events"), "", limit),
        (program!("publisher_confirms"), "", limit),
        (program!("rpc_client"), "30 31", "fib(30) was not answered within 2 s, fib(31) was not answered"),
    ];
    let amqp = vhost.amqp_url();
    let ends = programs.map(|(program, words, expected)| {
        let amqp = &amqp;
        async move {
            let (code, error) = fail_at(amqp, program, words).await;
            assert_eq!(code, 1);
            assert!(error.starts_with(&format!("error: {expected}")), "{program}: {error}");
        }
    });
    join_all(ends).await;
}

#[tokio::test]
async fn a_queue_with_other_arguments_is_named_with_the_difference() {
    let place = Place::new().await;
    for (program, queue) in PROGRAMS.into_iter().zip(["hello", "task_queue"]) {
        place.vhost.declare(queue, FieldTable::default()).await;
        let (code, error) = place.fail(program, "").await;
        assert_eq!(code, 1);
        for part in ["inequivalent arg 'x-queue-type'", queue, "delete it, or use a virtual host of your own"]
        {
            assert!(error.contains(part), "{error}");
        }
    }
}

#[tokio::test]
async fn a_wrong_command_line_says_what_is_missing() {
    let place = Place::new().await;
    for (program, words, expected) in [
        (program!("send"), "--ampq Hello", "--ampq: the only flags are --amqp URL and --help"),
        (program!("emit_log_direct"), "", "the severity is missing"),
        (program!("emit_log_topic"), "", "the topic is missing"),
        (program!("receive_logs_direct"), "", "name one or more severities"),
        (program!("receive_logs_topic"), "", "name one or more patterns"),
        (program!("receive_logs_headers"), "some a=b", "write `all` or `any`"),
        (program!("delayed"), "soon wake up", "the first word is the delay: 1 to 3600 seconds"),
        (program!("priorities"), "alarm", "write PRIORITY:TEXT"),
    ] {
        let (code, error) = place.fail(program, words).await;
        assert_eq!(code, 2, "{error}");
        assert!(error.contains(expected) && error.ends_with("(see --help)"), "{error}");
    }
    assert_eq!(place.run(program!("send"), "--help").await[0], "send: publishes one message to one queue.");
}

#[tokio::test]
async fn a_plain_consumer_says_that_its_connection_is_lost_and_a_worker_reconnects() {
    let place = Place::new().await;
    let proxy = Proxy::start(place.vhost.address()).await;
    let amqp = place.vhost.amqp_url_at(proxy.port());
    let (mut plain, worker) =
        (start_at(&amqp, program!("receive"), ""), start_at(&amqp, program!("worker"), ""));
    for program in [&plain, &worker] {
        until_true("it waits", PATIENCE, async || !program.lines().is_empty()).await;
    }
    proxy.cut();
    assert_eq!(plain.0.exit_code().await, Some(1));
    let error = plain.errors();
    assert!(
        error.starts_with("error: the connection to the broker is lost: start the program again"),
        "{error}"
    );

    place.run(program!("new_task"), "after the cut").await;
    assert_eq!(worker.heard(2).await, ["received after the cut", "done"]);
    worker.interrupt().await;
}
