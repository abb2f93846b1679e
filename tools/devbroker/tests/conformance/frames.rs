//! Frames that are wrong, or come where another is due.

use amq_protocol::{
    frame::AMQPFrame,
    protocol::{AMQPClass, BasicProperties, basic, connection},
};

use crate::kit::{Place, Wire, declare, publish};

#[tokio::test]
async fn a_frame_larger_than_agreed_is_refused() {
    let place = Place::new().await;
    let mut wire = Wire::tuned(&place, |tune| tune.frame_max = 8192).await;
    wire.open_vhost().await;
    wire.open_channel(1).await;
    wire.publish(publish("", "q"), BasicProperties::default(), &[b'x'; 9000]).await;
    let frame = wire.next().await;
    assert_eq!(
        wire.described(&frame),
        "connection 501 FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,9000,8184} (0, 0)"
    );
}

#[tokio::test]
async fn a_frame_without_its_end_is_refused() {
    let place = Place::new().await;
    let mut wire = Wire::open(&place).await;
    // A heartbeat whose last byte is not 0xCE.
    wire.raw(&[8, 0, 0, 0, 0, 0, 0, 0xCD]).await;
    let frame = wire.next().await;
    assert_eq!(
        wire.described(&frame),
        "connection 501 FRAME_ERROR - type 8, all octets = <<>>: {invalid_frame_end_marker,205} (0, 0)"
    );
}

#[tokio::test]
async fn a_frame_of_no_known_type_is_refused() {
    let place = Place::new().await;
    let mut wire = Wire::open(&place).await;
    wire.raw(&[9, 0, 1, 0, 0, 0, 0, 0xCE]).await;
    let frame = wire.next().await;
    assert_eq!(
        wire.described(&frame),
        "connection 501 FRAME_ERROR - type 9, all octets = <<>>: unknown_frame (0, 0)"
    );
}

#[tokio::test]
async fn a_method_that_does_not_exist_is_refused() {
    let place = Place::new().await;
    let mut wire = Wire::open(&place).await;
    wire.raw(&[1, 0, 1, 0, 0, 0, 4, 0, 50, 0, 99, 0xCE]).await;
    let frame = wire.next().await;
    place.answers("a method that does not exist", wire.described(&frame), "end");
}

#[tokio::test]
async fn frames_out_of_order_are_refused() {
    let place = Place::new().await;
    let mut answers = vec![];

    // A method where a header is due.
    let mut wire = Wire::open(&place).await;
    wire.send(1, publish("", "q")).await;
    wire.send(1, declare("q", [])).await;
    answers.push(wire.answer().await);

    // A body where a header is due.
    wire.send(1, publish("", "q")).await;
    wire.frame(AMQPFrame::Body(1, b"body".to_vec())).await;
    answers.push(wire.answer().await);

    // A header without a publish.
    wire.header(BasicProperties::default(), 0).await;
    answers.push(wire.answer().await);

    // A method where a body is due.
    wire.send(1, publish("", "q")).await;
    wire.header(BasicProperties::default(), 4).await;
    wire.send(1, declare("q", [])).await;
    answers.push(wire.answer().await);
    let unexpected = |text| format!("connection 505 UNEXPECTED_FRAME - {text} frame instead");
    let header = unexpected("expected content header for class 60, got non content header") + " (60, 40)";
    let method = unexpected("expected method frame, got non method") + " (0, 0)";
    let body = unexpected("expected content body, got non content body") + " (60, 40)";
    assert_eq!(answers, [header.clone(), header, method, body]);
}

#[tokio::test]
async fn methods_in_the_wrong_place_are_refused() {
    let place = Place::new().await;
    let mut wire = Wire::open(&place).await;
    let mut answers = vec![];

    // On a channel that is not open.
    wire.send(2, declare("q", [])).await;
    answers.push(wire.answer().await);

    // A channel's method where only the connection's belong.
    wire.send(0, declare("q", [])).await;
    answers.push(wire.answer().await);

    // A connection's method on a channel.
    wire.send(1, connection::Open { virtual_host: "/".into() }).await;
    answers.push(wire.answer().await);

    // A method that only a broker sends.
    wire.send(1, AMQPClass::Basic(basic::AMQPMethod::QosOk(basic::QosOk {}))).await;
    answers.push(wire.answer().await);
    let reference = [
        "connection 504 CHANNEL_ERROR - expected 'channel.open' (50, 10)",
        "connection 504 CHANNEL_ERROR - unexpected method in connection state running (50, 10)",
        "connection 503 COMMAND_INVALID - unimplemented method (10, 40)",
        "connection 503 COMMAND_INVALID - unimplemented method (60, 11)",
    ];
    assert_eq!(answers, reference);
}
