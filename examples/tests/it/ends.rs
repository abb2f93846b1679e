//! Programs stop: by Ctrl-C, by `kill -9`, and when a request gets no reply.

use std::time::Duration;

use e2e::{
    broker::{PrivateBroker, Shortage},
    wait::{PATIENCE, until, until_true},
};
use lapin::{
    BasicProperties,
    options::{BasicGetOptions, BasicPublishOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

use crate::kit::{Place, program, start_at};

#[tokio::test]
async fn a_worker_finishes_its_task_after_ctrl_c() {
    let place = Place::new().await;
    let worker = place.listen(program!("worker"), "").await;
    for task in ["long..", "next"] {
        place.run(program!("new_task"), task).await;
    }
    worker.heard(1).await;
    assert_eq!(worker.interrupt().await, ["received long..", "done"]);
    // The next task was left to other workers.
    let other = place.listen(program!("worker"), "").await;
    assert_eq!(other.heard(2).await, ["received next", "done"]);
    other.interrupt().await;
    place.until_empty("task_queue").await;
}

#[tokio::test]
async fn a_killed_workers_task_is_done_by_another() {
    let place = Place::new().await;
    let mut worker = place.listen(program!("worker"), "").await;
    place.run(program!("new_task"), "long....").await;
    worker.heard(1).await;
    worker.0.kill9().await;
    let other = place.listen(program!("worker"), "").await;
    assert_eq!(other.heard(2).await, ["received long...., again", "done"]);
    other.interrupt().await;
}

#[tokio::test]
async fn a_second_ctrl_c_stops_a_program_at_once() {
    let place = Place::new().await;
    let mut worker = place.listen(program!("worker"), "").await;
    place.run(program!("new_task"), &".".repeat(500)).await;
    worker.heard(1).await;
    worker.0.sigint();
    until_true("it prints that it finishes its message", PATIENCE, async || {
        worker.errors().contains("once more")
    })
    .await;
    worker.0.sigint();
    assert_eq!(worker.0.exit_code().await, Some(130));
}

#[tokio::test]
async fn listeners_leave_no_queue_behind() {
    let place = Place::new().await;
    let listener = place.listen(program!("receive_logs"), "").await;
    let others = [program!("receive_logs_direct"), program!("receive_logs_topic")];
    let others = [place.listen(others[0], "info").await, place.listen(others[1], "#").await];
    until_true("three queues", PATIENCE, async || place.vhost.queues().await.len() == 3).await;
    listener.interrupt().await;
    for other in others {
        other.interrupt().await;
    }
    until_true("no queue", PATIENCE, async || place.vhost.queues().await.is_empty()).await;
}

/// Declares the queue of requests, for a test that acts as the server.
async fn serve(place: &Place) -> (lapin::Connection, lapin::Channel) {
    let (connection, channel) = place.vhost.channel().await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(2000));
    let options = QueueDeclareOptions { durable: true, auto_delete: true, ..Default::default() };
    channel.queue_declare("rpc_queue".into(), options, arguments).await.unwrap();
    (connection, channel)
}

async fn question(channel: &lapin::Channel) -> BasicProperties {
    let get = async || channel.basic_get("rpc_queue".into(), BasicGetOptions { no_ack: true }).await.unwrap();
    until("a question", PATIENCE, get).await.properties.clone()
}

#[tokio::test]
async fn a_late_reply_is_dropped_and_the_next_request_gets_its_own() {
    let place = Place::new().await;
    let (_connection, channel) = serve(&place).await;
    let mut client = place.start(program!("rpc_client"), "1 2");
    // The client sends the second request after it has given up on the first one.
    let (first, second) = (question(&channel).await, question(&channel).await);
    for (asked, answer) in [(first, "one"), (second, "two")] {
        let properties =
            BasicProperties::default().with_correlation_id(asked.correlation_id().clone().unwrap());
        let (key, options) = (asked.reply_to().clone().unwrap(), BasicPublishOptions::default());
        channel.basic_publish("".into(), key, options, answer.as_bytes(), properties).await.unwrap();
    }
    assert_eq!(client.0.exit_code().await, Some(1), "one question had no answer");
    assert_eq!(client.lines(), ["dropped a late reply", "fib(2) = two"]);
    assert_eq!(client.errors(), "error: fib(1) was not answered within 2 s\n");
}

#[tokio::test]
async fn ctrl_c_stops_a_program_that_waits_for_a_reply() {
    let place = Place::new().await;
    let (_connection, channel) = serve(&place).await;
    let mut client = place.start(program!("rpc_client"), "1 2 3 4 5 6 7 8 9 10");
    question(&channel).await;
    client.0.sigint();
    assert_eq!((client.0.exit_code().await, client.errors().as_str()), (Some(130), ""));
}

#[tokio::test]
async fn ctrl_c_stops_a_program_whose_message_the_broker_does_not_take() {
    let broker = PrivateBroker::start().await;
    broker.starve(Shortage::Memory).await;
    let vhost = broker.vhost();
    for (program, queue) in
        [(program!("publisher_confirms"), None), (program!("new_task"), Some("task_queue"))]
    {
        let mut program = start_at(&vhost.amqp_url(), program, "");
        until_true("it has its queue", PATIENCE, async || {
            vhost.queues().await.keys().any(|name| queue.is_none_or(|queue| queue == name))
        })
        .await;
        program.0.sigint();
        assert_eq!((program.0.exit_code().await, program.errors().as_str()), (Some(130), ""));
    }
}

#[tokio::test]
async fn a_server_that_dies_with_a_request_in_flight_is_a_clear_error() {
    let place = Place::new().await;
    let (connection, channel) = serve(&place).await;
    let mut client = place.start(program!("rpc_client"), "1");
    question(&channel).await;
    let _ = tokio::time::timeout(Duration::from_secs(10), connection.close(200, "dies".into())).await;
    assert_eq!(client.0.exit_code().await, Some(1));
    assert_eq!(client.errors(), "error: fib(1) was not answered within 2 s\n");
}
