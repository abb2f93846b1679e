//! Closes that cross: one side sends `close` before it has received the other's.

use amq_protocol::protocol::connection::AMQPMethod as Connection;

use super::*;

/// Compares the methods that the broker sends with those expected, after methods that a client sends without reading.
fn check(sent: &[(u16, AMQPClass)], expected: &[&str]) {
    let mut core = Core::new(1, MAX_CONNECTIONS);
    let client = super::connect(&mut core);
    core.handle(0, client, Input::Method(2, open()));
    core.take_output();
    for (number, method) in sent {
        core.handle(0, client, Input::Method(*number, method.clone()));
    }
    let frames = core.take_output().frames;
    let received: Vec<_> = frames.iter().map(|(_, out)| brief(out)).collect();
    assert_eq!(received, expected, "after {sent:?}");
}

fn brief(out: &Outgoing) -> String {
    match out {
        Outgoing::Method(number, AMQPClass::Channel(channel::AMQPMethod::Close(close))) => {
            format!("{number} close {}", close.reply_code)
        }
        Outgoing::Method(0, AMQPClass::Connection(Connection::Close(close))) => {
            format!("0 close {}", close.reply_code)
        }
        Outgoing::Method(number, AMQPClass::Channel(channel::AMQPMethod::CloseOk(_))) => {
            format!("{number} close-ok")
        }
        Outgoing::Method(0, AMQPClass::Connection(Connection::CloseOk(_))) => "0 close-ok".into(),
        Outgoing::Method(number, _) | Outgoing::Content(number, ..) => format!("{number} answer"),
        Outgoing::Shutdown => "end".into(),
    }
}

fn open() -> AMQPClass {
    AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}))
}

fn close() -> AMQPClass {
    AMQPClass::Channel(channel::AMQPMethod::Close(channel::Close::default()))
}

fn close_ok() -> AMQPClass {
    AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {}))
}

fn declare() -> AMQPClass {
    AMQPClass::Queue(Queue::Declare(q::Declare { queue: "q".into(), ..q::Declare::default() }))
}

/// A method that closes its channel: the queue does not exist.
fn purge() -> AMQPClass {
    AMQPClass::Queue(Queue::Purge(q::Purge { queue: "missing".into(), nowait: false }))
}

fn close_connection() -> AMQPClass {
    AMQPClass::Connection(Connection::Close(connection::Close::default()))
}

fn close_connection_ok() -> AMQPClass {
    AMQPClass::Connection(Connection::CloseOk(connection::CloseOk {}))
}

#[test]
fn a_channel_closes_once_both_sides_have_answered() {
    // The client answers our close after its own was answered; the other channel goes on, and the number is free.
    check(
        &[(1, purge()), (1, close()), (1, close_ok()), (2, declare()), (1, open()), (1, declare())],
        &["1 close 404", "1 close-ok", "2 answer", "1 answer", "1 answer"],
    );
    // Each of its closes is answered, and everything else on the channel is ignored.
    check(
        &[
            (1, purge()),
            (1, close()),
            (1, declare()),
            (1, purge()),
            (1, close()),
            (1, close_ok()),
            (1, open()),
        ],
        &["1 close 404", "1 close-ok", "1 close-ok", "1 answer"],
    );
    // Without its answer, the number is still taken.
    check(&[(1, purge()), (1, close()), (1, open())], &["1 close 404", "1 close-ok", "0 close 504"]);
    // An answer to nothing.
    check(&[(1, close_ok())], &["0 close 503"]);
    check(&[(1, close()), (1, close_ok())], &["1 close-ok", "0 close 504"]);
    check(&[(1, purge()), (1, close_ok()), (1, close())], &["1 close 404", "0 close 504"]);
}

#[test]
fn a_connection_closes_once_both_sides_have_answered() {
    // On channel 0 only the connection's methods are allowed.
    check(
        &[(0, declare()), (0, close_connection()), (1, declare()), (1, close()), (0, close_connection_ok())],
        &["0 close 504", "0 close-ok", "end"],
    );
    // A channel's close crosses the connection's.
    check(&[(1, purge()), (0, close_connection()), (1, close_ok())], &["1 close 404", "0 close-ok", "end"]);
    check(&[(0, close_connection()), (2, declare()), (0, declare())], &["0 close-ok", "end"]);
}

#[test]
fn an_operator_cannot_close_what_its_client_has_closed() {
    let mut bench = Bench::new();
    bench.core.handle(0, bench.client, Input::Method(0, close_connection()));
    bench.seen();
    assert!(!bench.core.close_connection(0, bench.client, &AmqpError::forced("why")));
    assert_eq!(bench.seen(), [""; 0]);
}
