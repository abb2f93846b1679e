//! Checks of each program's header. A function returns the table's cell if every promise of the header holds.

use std::collections::BTreeSet;

use crate::kit::{Place, Program, program};

const YES: &str = "yes";

/// Runs a row's check once per run, for its own test and for the table.
macro_rules! tests {
    ($($test:ident: $pattern:ident),* $(,)?) => {
        $(#[tokio::test]
        async fn $test() {
            crate::table::cell(stringify!($pattern)).await;
        })*
    };
}
pub(crate) use tests;

tests! {
    a_message_waits_for_its_receiver: queue,
    workers_share_the_tasks: work_queue,
    everybody_hears_a_log_line: publish_subscribe,
    a_severity_reaches_who_asked_for_it: routing,
    a_topic_reaches_who_has_a_pattern_for_it: topics,
    headers_are_compared_all_or_any: headers,
    a_question_is_answered: request_reply,
    a_short_delay_does_not_wait_for_a_long_one: delayed,
    a_broker_confirms_returns_and_refuses: publisher_confirms,
    a_high_priority_overtakes: priorities,
    the_second_consumer_takes_over_from_the_first: single_active,
    a_stream_is_read_again_from_its_first_entry: stream,
    four_services_hear_of_what_they_subscribed_to: order_events,
}

pub(crate) async fn queue() -> String {
    let place = Place::new().await;
    assert_eq!(place.run(program!("send"), "Hello, rabbit").await, ["sent Hello, rabbit"]);
    let receiver = place.listen(program!("receive"), "").await;
    assert_eq!(receiver.heard(1).await, ["received Hello, rabbit"]);
    place.run(program!("send"), "").await;
    assert_eq!(receiver.heard(2).await[1], "received Hello, rabbit");
    receiver.interrupt().await;
    place.until_empty("hello").await;
    YES.into()
}

pub(crate) async fn work_queue() -> String {
    let place = Place::new().await;
    let workers = [place.listen(program!("worker"), "").await, place.listen(program!("worker"), "").await];
    for task in ["one.", "two.", "three.", "four."] {
        assert_eq!(place.run(program!("new_task"), task).await, [format!("queued {task}")]);
    }
    let done = async || {
        let lines: Vec<_> = workers.iter().flat_map(Program::lines).filter(|line| line == "done").collect();
        lines.len() == 4
    };
    e2e::wait::until_true("all is done", e2e::wait::PATIENCE, done).await;
    let mut all = BTreeSet::new();
    for worker in workers {
        let lines = worker.interrupt().await;
        assert!(lines.len() >= 2, "each has had a task");
        all.extend(lines.into_iter().filter(|line| line != "done"));
    }
    let expected = ["one.", "two.", "three.", "four."].map(|task| format!("received {task}"));
    assert_eq!(all, BTreeSet::from(expected));
    YES.into()
}

pub(crate) async fn publish_subscribe() -> String {
    let place = Place::new().await;
    assert_eq!(place.run(program!("emit_log"), "nobody hears").await, ["sent nobody hears"]);
    let (one, two) =
        (place.listen(program!("receive_logs"), "").await, place.listen(program!("receive_logs"), "").await);
    place.run(program!("emit_log"), "").await;
    for listener in [one, two] {
        assert_eq!(listener.heard(1).await, ["the disk is full"]);
        listener.interrupt().await;
    }
    YES.into()
}

/// Starts two listeners, sends lines, and compares the lines that each has printed. Because a queue keeps the order,
/// a line that is not for a listener would have arrived by then.
async fn compare(
    listener: &'static str,
    wanted: [&str; 2],
    emitter: &'static str,
    lines: &[&str],
    heard: [&[&str]; 2],
) -> String {
    let place = Place::new().await;
    let (one, two) = (place.listen(listener, wanted[0]).await, place.listen(listener, wanted[1]).await);
    for line in lines {
        place.run(emitter, line).await;
    }
    for (listener, expected) in [one, two].into_iter().zip(heard) {
        assert_eq!(listener.heard(expected.len()).await, expected);
        assert_eq!(listener.interrupt().await, expected);
    }
    YES.into()
}

pub(crate) async fn routing() -> String {
    compare(
        program!("receive_logs_direct"),
        ["error", "error info"],
        program!("emit_log_direct"),
        &["info a guest has come", "debug nobody wants this", "error the disk is full"],
        [&["error: the disk is full"], &["info: a guest has come", "error: the disk is full"]],
    )
    .await
}

pub(crate) async fn topics() -> String {
    compare(
        program!("receive_logs_topic"),
        ["stock.us.*", "audit.# *.news #.login.#"],
        program!("emit_log_topic"),
        &[
            "news.sports not this order",
            "stock.us.nyse.late one word too many",
            "audit.login.failed guest",
            "audit itself",
            "sports.news a rabbit wins",
            "stock.us.nyse up by 2",
        ],
        [
            &["stock.us.nyse: up by 2"],
            &["audit.login.failed: guest", "audit: itself", "sports.news: a rabbit wins"],
        ],
    )
    .await
}

pub(crate) async fn headers() -> String {
    compare(
        program!("receive_logs_headers"),
        ["all format=pdf type=report", "any format=pdf type=report"],
        program!("emit_log_headers"),
        &["format=pdf type=invoice 12 carrots", "format=txt a note", "format=pdf type=report the year"],
        [&["the year"], &["12 carrots", "the year"]],
    )
    .await
}

pub(crate) async fn request_reply() -> String {
    let place = Place::new().await;
    let server = place.listen(program!("rpc_server"), "").await;
    let answers = place.run(program!("rpc_client"), "30 92 many").await;
    assert_eq!(
        answers,
        ["fib(30) = 832040", "fib(92) = 7540113804746346429", "fib(many) = not known: ask for 0 to 92"]
    );
    let asked = ["asked for fib(30)", "asked for fib(92)", "asked for fib(many)"];
    assert_eq!(server.interrupt().await, asked);
    let nobody = "error: no server for rpc_queue: start `cargo run --bin rpc_server`";
    assert_eq!(place.fail(program!("rpc_client"), "30").await, (1, nobody.to_owned()));
    YES.into()
}

pub(crate) async fn delayed() -> String {
    let place = Place::new().await;
    let receiver = place.listen(program!("delayed"), "").await;
    assert_eq!(place.run(program!("delayed"), "6 wake up").await, ["in 6 s: wake up"]);
    assert_eq!(place.run(program!("delayed"), "1 lie down").await, ["in 1 s: lie down"]);
    assert_eq!(receiver.heard(2).await, ["received lie down", "received wake up"]);
    receiver.interrupt().await;
    YES.into()
}

pub(crate) async fn publisher_confirms() -> String {
    let lines = Place::new().await.run(program!("publisher_confirms"), "").await;
    let [one_by_one, together, rest @ ..] = &lines[..] else { panic!("{lines:?}") };
    assert!(one_by_one.starts_with("confirmed one by one: 200 messages in "), "{one_by_one}");
    assert!(together.starts_with("confirmed together: 200 messages in "), "{together}");
    assert_eq!(rest, ["returned: 312 NO_ROUTE", "refused: the queue is full"]);
    YES.into()
}

pub(crate) async fn priorities() -> String {
    let lines = Place::new().await.run(program!("priorities"), "").await;
    let received = ["9 alarm", "5 invoice", "1 newsletter", "1 reminder"];
    assert_eq!(lines[4..], received.map(|message| format!("received {message}")));
    YES.into()
}

pub(crate) async fn single_active() -> String {
    let place = Place::new().await;
    let first = place.listen(program!("single_active"), "").await;
    let second = place.listen(program!("single_active"), "").await;
    for line in ["one", "two"] {
        assert_eq!(place.run(program!("single_active"), line).await, [format!("sent {line}")]);
    }
    assert_eq!(first.heard(2).await, ["received one", "received two"]);
    first.interrupt().await;
    place.run(program!("single_active"), "three").await;
    assert_eq!(second.heard(1).await, ["received three"]);
    second.interrupt().await;
    YES.into()
}

pub(crate) async fn stream() -> String {
    let place = Place::new().await;
    for entry in ["the first entry", "the second"] {
        assert_eq!(place.run(program!("stream_append"), entry).await, [format!("appended {entry}")]);
    }
    let so_far = [
        "reading from the first entry",
        "0 the first entry",
        "1 the second",
        "that is all so far; Ctrl-C stops it",
    ];
    let reader = place.start(program!("stream_replay"), "");
    assert_eq!(reader.heard(4).await, so_far);
    place.run(program!("stream_append"), "the third").await;
    assert_eq!(reader.heard(5).await[4], "2 the third");
    reader.interrupt().await;
    let again = place.start(program!("stream_replay"), "");
    assert_eq!(again.heard(5).await[1..4], ["0 the first entry", "1 the second", "2 the third"]);
    again.interrupt().await;
    YES.into()
}

pub(crate) async fn order_events() -> String {
    let lines = Place::new().await.run(program!("order_events"), "").await;
    let sorted = |lines: &[String]| lines.iter().cloned().collect::<BTreeSet<_>>();
    let created = ["email", "inventory", "analytics"].map(|s| format!("{s} received order.created"));
    assert_eq!(sorted(&lines[..3]), BTreeSet::from(created));
    assert_eq!(lines[3], "accounting received payment.processed");
    let shipped = ["email", "analytics"].map(|s| format!("{s} received order.shipped"));
    assert_eq!(sorted(&lines[4..]), BTreeSet::from(shipped));
    YES.into()
}
