//! Closes that cross: the client closes what the broker is closing, because it has not received that yet.

use amq_protocol::protocol::{AMQPClass, channel, connection};
use lapin::BasicProperties;

use crate::kit::{Call as _, Frame, Place, Wire, declare, declare_passive, publish};

const MISSING: &str = "channel 404 NOT_FOUND - no queue 'missing' in vhost 'VHOST' (50, 10)";

fn close() -> AMQPClass {
    channel::Close { reply_code: 200, ..Default::default() }.class()
}

fn close_connection() -> AMQPClass {
    connection::Close { reply_code: 200, ..Default::default() }.class()
}

/// Sends methods without reading, and returns the next answers, none of which it answers itself.
async fn answers(wire: &mut Wire, sent: &[(u16, AMQPClass)], count: usize) -> Vec<String> {
    for (channel, method) in sent {
        wire.send(*channel, method.clone()).await;
    }
    let mut answers = vec![];
    for _ in 0..count {
        let frame = wire.next().await;
        answers.push(wire.described(&frame));
    }
    answers
}

async fn with_two_channels() -> Wire {
    let mut wire = Wire::open(&Place::new().await).await;
    wire.open_channel(2).await;
    wire
}

#[tokio::test]
async fn closes_of_a_channel_that_cross_concern_no_other_channel() {
    let mut wire = with_two_channels().await;
    let sent = [(1, declare_passive("missing").class()), (1, close())];
    assert_eq!(answers(&mut wire, &sent, 2).await, [MISSING, "channel.close-ok"]);
    // The client answers the broker's close, as it has to.
    let sent = [(1, channel::CloseOk {}.class()), (2, declare("q", []).class())];
    assert_eq!(answers(&mut wire, &sent, 1).await, ["queue.declare-ok"]);
    wire.open_channel(1).await;
    assert_eq!(wire.outcome(declare_passive("q")).await, "queue.declare-ok");
}

#[tokio::test]
async fn what_comes_on_a_closing_channel_is_ignored_except_a_close() {
    let mut wire = with_two_channels().await;
    let sent = [
        (1, declare_passive("missing").class()),
        (1, close()),
        (1, declare("q", []).class()),
        (1, declare_passive("missing").class()),
    ];
    assert_eq!(answers(&mut wire, &sent, 2).await, [MISSING, "channel.close-ok"]);
    wire.publish(publish("", "nobody"), BasicProperties::default(), b"lost").await;
    assert_eq!(answers(&mut wire, &[(1, close())], 1).await, ["channel.close-ok"]);
    // Not before that has come: RabbitMQ ends a closed channel with what it has not sent yet.
    wire.send(1, channel::CloseOk {}.class()).await;
    wire.open_channel(1).await;
    assert!(wire.outcome(declare_passive("q")).await.starts_with("channel 404 "), "it was declared");
}

#[tokio::test]
async fn a_channels_number_is_free_when_the_brokers_close_is_answered() {
    let mut wire = with_two_channels().await;
    let sent = [(1, declare_passive("missing").class()), (1, close())];
    assert_eq!(answers(&mut wire, &sent, 2).await, [MISSING, "channel.close-ok"]);
    // Not before those have come: RabbitMQ ends a channel that closes its connection with what it has not sent yet.
    let second = "connection 504 CHANNEL_ERROR - second 'channel.open' seen (20, 10)";
    assert_eq!(answers(&mut wire, &[(1, channel::Open {}.class())], 1).await, [second]);
}

#[tokio::test]
async fn an_answer_to_no_close_closes_the_connection() {
    let close_ok = || channel::CloseOk {}.class();
    let mut wire = with_two_channels().await;
    let unexpected = "connection 503 COMMAND_INVALID - unimplemented method (20, 41)";
    assert_eq!(answers(&mut wire, &[(1, close_ok())], 1).await, [unexpected], "an open channel");

    let mut wire = with_two_channels().await;
    assert_eq!(answers(&mut wire, &[(1, close())], 1).await, ["channel.close-ok"]);
    let closed = "connection 504 CHANNEL_ERROR - expected 'channel.open' (20, 41)";
    assert_eq!(answers(&mut wire, &[(1, close_ok())], 1).await, [closed], "a closed channel");

    let mut wire = with_two_channels().await;
    let missing = [(1, declare_passive("missing").class())];
    assert_eq!(answers(&mut wire, &missing, 1).await, [MISSING]);
    let closed = "connection 504 CHANNEL_ERROR - expected 'channel.open' (20, 40)";
    assert_eq!(answers(&mut wire, &[(1, close_ok()), (1, close())], 1).await, [closed], "a close too late");
}

#[tokio::test]
async fn closes_of_a_connection_that_cross_are_both_answered() {
    let mut wire = with_two_channels().await;
    let sent = [
        // A channel's method, where only the connection's are allowed.
        (0, declare("q", []).class()),
        (1, declare("q", []).class()),
        (1, close()),
        (0, close_connection()),
    ];
    let wrong = "connection 504 CHANNEL_ERROR - unexpected method in connection state running (50, 10)";
    assert_eq!(answers(&mut wire, &sent, 2).await, [wrong, "connection.close-ok"]);
    let sent = [(0, connection::CloseOk {}.class())];
    assert_eq!(answers(&mut wire, &sent, 1).await, ["end"]);
}

#[tokio::test]
async fn a_channels_close_may_cross_the_connections() {
    let mut wire = with_two_channels().await;
    let sent = [(1, declare_passive("missing").class())];
    assert_eq!(answers(&mut wire, &sent, 1).await, [MISSING]);
    let sent = [(0, close_connection()), (1, channel::CloseOk {}.class()), (2, declare("q", []).class())];
    assert_eq!(answers(&mut wire, &sent, 1).await, ["connection.close-ok"]);
    let after = wire.next_within(std::time::Duration::from_millis(300)).await;
    assert!(matches!(after, None | Some(Frame::End)), "{after:?}");
}
