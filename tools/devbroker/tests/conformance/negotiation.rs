//! From the first byte to an open connection, and how a connection ends.

use std::time::{Duration, Instant};

use amq_protocol::{
    frame::AMQPFrame,
    protocol::{channel, connection},
};
use lapin::types::AMQPValue;

use crate::kit::{Client, Frame, Place, Wire, get};

#[tokio::test]
async fn the_greeting_offers_plain_and_english() {
    let place = Place::new().await;
    let start = Wire::dial(&place).await.greet().await;
    assert_eq!((start.version_major, start.version_minor), (0, 9));
    let mechanisms = start.mechanisms.to_string();
    let mut mechanisms: Vec<_> = mechanisms.split(' ').collect();
    mechanisms.sort_unstable();
    place.answers("mechanisms", mechanisms, ["AMQPLAIN", "ANONYMOUS", "PLAIN"]);
    assert_eq!(start.locales.to_string(), "en_US");
}

#[tokio::test]
async fn the_greeting_names_the_extensions() {
    let place = Place::new().await;
    let start = Wire::dial(&place).await.greet().await;
    let Some(AMQPValue::FieldTable(capabilities)) = start.server_properties.inner().get("capabilities")
    else {
        panic!("{start:?}");
    };
    let yes = |name: &str| capabilities.inner().get(name) == Some(&AMQPValue::Boolean(true));
    for name in [
        "publisher_confirms",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ] {
        assert!(yes(name), "{name}");
    }
    place.answers("capability consumer_priorities", yes("consumer_priorities"), true);
    place.answers("capability exchange_exchange_bindings", yes("exchange_exchange_bindings"), true);
}

#[tokio::test]
async fn the_limits_that_are_offered() {
    let place = Place::new().await;
    let mut wire = Wire::dial(&place).await;
    wire.greet().await;
    let tune = wire.log_in("guest", "guest", true).await.unwrap();
    assert_eq!((tune.channel_max, tune.frame_max, tune.heartbeat), (2047, 131_072, 60));
}

#[tokio::test]
async fn another_protocol_is_answered_with_the_right_ones_name() {
    let place = Place::new().await;
    let mut wire = Wire::dial(&place).await;
    wire.raw(b"AMQP\0\0\x09\x00").await;
    assert_eq!(wire.rest().await, b"AMQP\0\0\x09\x01");
    // Bytes that are not AMQP at all get the name of the newest protocol that the broker speaks: RabbitMQ's own is AMQP 1.0.
    let mut wire = Wire::dial(&place).await;
    wire.raw(b"GET / HT").await;
    let answer = wire.rest().await;
    place.answers("another protocol's greeting", answer, b"AMQP\x03\x01\0\0");
}

#[tokio::test]
async fn a_wrong_password_is_refused_with_403() {
    let place = Place::new().await;
    for (user, password) in [("guest", "wrong"), ("nobody", "guest"), ("", "")] {
        let mut wire = Wire::dial(&place).await;
        wire.greet().await;
        let refusal = wire.log_in(user, password, true).await.unwrap_err();
        let text = "connection 403 ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. \
                    For details see the broker logfile. (0, 0)";
        assert_eq!(refusal, text, "{user:?} with {password:?}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_understand_403_is_hung_up_on() {
    let place = Place::new().await;
    let mut wire = Wire::dial(&place).await;
    wire.greet().await;
    assert_eq!(wire.log_in("guest", "wrong", false).await.unwrap_err(), "end");
}

#[tokio::test]
async fn an_unknown_mechanism_is_refused() {
    let place = Place::new().await;
    let mut wire = Wire::dial(&place).await;
    wire.greet().await;
    assert_eq!(wire.start("CLEVER", "", true).await.unwrap_err(), "end");
}

#[tokio::test]
async fn an_unknown_virtual_host() {
    let place = Place::new().await;
    let mut wire = Wire::tuned(&place, |_| {}).await;
    let virtual_host = format!("{}.other", place.vhost.name());
    wire.send(0, connection::Open { virtual_host: virtual_host.into() }).await;
    let frame = wire.next().await;
    let answer = wire.described(&frame);
    place.answers(
        "unknown virtual host",
        answer,
        "connection 530 NOT_ALLOWED - vhost VHOST.other not found (10, 40)",
    );
}

#[tokio::test]
async fn limits_that_cannot_be_agreed_on() {
    let place = Place::new().await;
    let mut answers = vec![];
    for (channel_max, frame_max) in
        [(2047, 100), (2047, 8191), (2047, 131_073), (2047, 0), (2048, 131_072), (0, 131_072)]
    {
        let mut wire =
            Wire::tuned(&place, |tune| (tune.channel_max, tune.frame_max) = (channel_max, frame_max)).await;
        let virtual_host = place.vhost.name().into();
        wire.send(0, connection::Open { virtual_host }).await;
        let frame = wire.next().await;
        answers.push(wire.described(&frame));
    }
    let reference = ["end"; 6];
    place.answers("limits that cannot be agreed on", answers, reference);
}

#[tokio::test]
async fn a_body_comes_in_frames_no_larger_than_agreed() {
    let client = Client::new().await;
    client.queue("q", []).await;
    client.send("q", &"x".repeat(20_000)).await;
    let mut wire = Wire::tuned(&client.place, |tune| tune.frame_max = 8192).await;
    wire.open_vhost().await;
    wire.open_channel(1).await;
    assert_eq!(wire.outcome(get("q")).await, "basic.get-ok");
    let Frame::Header(header) = wire.next().await else { panic!("no header") };
    assert_eq!(header.body_size, 20_000);
    let mut sizes = vec![];
    while sizes.iter().sum::<usize>() < 20_000 {
        let Frame::Body(bytes) = wire.next().await else { panic!("no body after {sizes:?}") };
        sizes.push(bytes.len());
    }
    // Eight bytes of a frame are not its payload.
    assert_eq!(sizes, [8184, 8184, 3632]);
}

#[tokio::test]
async fn more_channels_than_agreed_are_refused() {
    let place = Place::new().await;
    let mut wire = Wire::tuned(&place, |tune| tune.channel_max = 2).await;
    wire.open_vhost().await;
    wire.open_channel(1).await;
    wire.open_channel(2).await;
    wire.send(3, channel::Open {}).await;
    let frame = wire.next().await;
    assert_eq!(
        wire.described(&frame),
        "connection 530 NOT_ALLOWED - number of channels opened (2) has reached the negotiated \
            channel_max (2) (0, 0)"
    );
}

#[tokio::test]
async fn a_silent_client_gets_heartbeats_and_is_cut_off() {
    let place = Place::new().await;
    let mut wire = Wire::tuned(&place, |tune| tune.heartbeat = 1).await;
    // Before the last that the broker hears: from then on it waits.
    let start = Instant::now();
    wire.open_vhost().await;
    let mut heartbeats = 0;
    loop {
        match wire.next().await {
            Frame::Heartbeat => heartbeats += 1,
            Frame::End => break,
            other => panic!("{other:?}"),
        }
    }
    // One is sent every half of the agreed time, and two whole ones of silence are too much.
    assert!(
        heartbeats >= 1 && start.elapsed() >= Duration::from_secs(2),
        "{heartbeats} in {:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_client_that_sends_heartbeats_stays() {
    let place = Place::new().await;
    let mut wire = Wire::tuned(&place, |tune| tune.heartbeat = 1).await;
    wire.open_vhost().await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(4) {
        wire.frame(AMQPFrame::Heartbeat).await;
        let frame = wire.next_within(Duration::from_millis(300)).await;
        assert!(matches!(frame, None | Some(Frame::Heartbeat)), "{frame:?}");
    }
    wire.open_channel(1).await;
}

#[tokio::test]
async fn a_client_that_wants_no_heartbeats_gets_none() {
    let place = Place::new().await;
    let mut wire = Wire::tuned(&place, |tune| tune.heartbeat = 0).await;
    wire.open_vhost().await;
    assert_eq!(wire.next_within(Duration::from_secs(3)).await, None);
    wire.open_channel(1).await;
}

#[tokio::test]
async fn a_close_is_answered_and_nothing_comes_after_it() {
    let place = Place::new().await;
    let mut wire = Wire::open(&place).await;
    wire.send(0, connection::Close { reply_code: 200, reply_text: "bye".into(), class_id: 0, method_id: 0 })
        .await;
    let frame = wire.next().await;
    assert_eq!(wire.described(&frame), "connection.close-ok");
    let after = wire.next_within(Duration::from_millis(300)).await;
    assert!(matches!(after, None | Some(Frame::End)), "{after:?}");
}
