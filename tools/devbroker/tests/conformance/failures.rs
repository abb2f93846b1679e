//! What a queue counts of a message, and what of it a dead letter takes along.

use e2e::wait::until;
use lapin::{
    message::Delivery,
    options::{BasicGetOptions, BasicNackOptions, BasicRejectOptions},
    types::AMQPValue,
};

use crate::kit::{Client, LIMIT, header, in_time, text};

/// The counters of the deliveries before this one: the flag, `x-acquired-count` and `x-delivery-count`, each if it is there.
pub(crate) fn counters(delivery: &Delivery) -> String {
    let count = |word, name| match header(delivery, name) {
        None => String::new(),
        Some(AMQPValue::LongLongInt(count)) => format!(" {word}={count}"),
        Some(other) => panic!("{name}: {other:?}"),
    };
    let redelivered = if delivery.redelivered { "redelivered" } else { "" };
    [redelivered, &count("acquired", "x-acquired-count"), &count("failed", "x-delivery-count")].concat()
}

/// Gets a message and lets something happen to it: `n`ack and `r`eject requeue it, `N` and `R` do not, and `c` closes the channel.
/// Returns the counters of the delivery.
async fn get_and(client: &Client, queue: &str, what: char) -> String {
    let channel = client.another_channel().await;
    let got = until("a message", LIMIT, async || {
        in_time(channel.basic_get(queue.into(), BasicGetOptions::default())).await.unwrap()
    });
    let delivery = got.await.delivery;
    let requeue = what.is_lowercase();
    match what.to_ascii_lowercase() {
        'n' => {
            in_time(delivery.nack(BasicNackOptions { requeue, ..Default::default() })).await.unwrap();
        }
        'r' => {
            in_time(delivery.reject(BasicRejectOptions { requeue })).await.unwrap();
        }
        _ => {}
    }
    in_time(channel.close(200, "done".into())).await.unwrap();
    counters(&delivery)
}

#[tokio::test]
async fn a_dead_letter_takes_its_failures_along() {
    // The steps until a message is dead, as in `get_and`; then the counters of the dead letter: when it comes, after a
    // nack, and after a reject as well.
    let table = [
        ("N", "/redelivered acquired=1/redelivered acquired=2 failed=1"),
        (
            "R",
            "redelivered acquired=1 failed=1/redelivered acquired=1 failed=1/redelivered acquired=2 failed=2",
        ),
        ("nN", "/redelivered acquired=1/redelivered acquired=2 failed=1"),
        (
            "nR",
            "redelivered acquired=1 failed=1/redelivered acquired=1 failed=1/redelivered acquired=2 failed=2",
        ),
        (
            "rN",
            "redelivered acquired=1 failed=1/redelivered acquired=1 failed=1/redelivered acquired=2 failed=2",
        ),
        (
            "rrR",
            "redelivered acquired=3 failed=3/redelivered acquired=1 failed=3/redelivered acquired=2 failed=4",
        ),
        (
            "cN",
            "redelivered acquired=1 failed=1/redelivered acquired=1 failed=1/redelivered acquired=2 failed=2",
        ),
        (
            "ccR",
            "redelivered acquired=3 failed=3/redelivered acquired=1 failed=3/redelivered acquired=2 failed=4",
        ),
    ];
    let client = Client::new().await;
    let mut rows = vec![];
    for (from, to) in [("classic", "quorum"), ("quorum", "quorum"), ("quorum", "classic")] {
        let (mut all_found, mut all_references) = (vec![], vec![]);
        for (story, reference) in table {
            let (queue, dead) = (format!("{from}.{to}.{story}"), format!("{from}.{to}.{story}.dead"));
            client.queue_of_type(to, &dead, []).await;
            let target = [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text(&dead))];
            client.queue_of_type(from, &queue, target).await;
            client.send(&queue, "a").await;
            for what in story.chars() {
                get_and(&client, &queue, what).await;
            }
            let mut found = vec![];
            for what in ['n', 'r', 'n'] {
                found.push(get_and(&client, &dead, what).await);
            }
            // A classic queue counts, too, and shows of it the flag.
            let reference = if to == "classic" { flags_only(reference) } else { reference.into() };
            all_found.push(found.join("/"));
            all_references.push(reference);
        }
        rows.push((
            format!("dead letters of a {from} in a {to} queue"),
            all_found.join(", "),
            all_references.join(", "),
        ));
    }
    client.place.all_answer(rows);
}

fn flags_only(counters: &str) -> String {
    let flags = counters.split('/').map(|delivery| delivery.split(' ').next().unwrap_or_default());
    flags.collect::<Vec<_>>().join("/")
}
