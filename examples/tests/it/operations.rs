//! Checks of `vhosts`, whose users only RabbitMQ has, and of `firehose`, which an operator switches on.

use e2e::{
    broker::{Product, SharedBroker},
    wait::{PATIENCE, until},
};

use crate::{
    kit::{Place, program, start_at},
    patterns::tests,
};

tests! {
    a_virtual_host_gets_only_its_own_message: vhosts,
    each_event_of_a_message_is_printed_while_tracing_is_on: firehose,
}

pub(crate) async fn vhosts() -> String {
    let places = [Place::new().await, Place::new().await];
    let has_users = matches!(SharedBroker::from_environment().product(), Product::RabbitMq { .. });
    let mut urls = vec![];
    for Place { vhost } in &places {
        let url = if has_users {
            vhost.create_user("secret").await;
            vhost.amqp_url_as(&vhost.user(), "secret")
        } else {
            vhost.amqp_url()
        };
        // In the words of a program `_` would stand for a space.
        urls.push(url.replace('_', "%5F"));
    }
    let lines = places[0].run(program!("vhosts"), &urls.join(" ")).await;
    let [red, blue] = [0, 1].map(|place: usize| urls[place].rsplit('/').next().unwrap());
    assert_eq!(lines[..2], [format!("{red} has: for {red}"), format!("{blue} has: for {blue}")]);
    assert_eq!(lines.len(), 4, "{lines:?}");
    for (line, own, other) in [(&lines[2], red, blue), (&lines[3], blue, red)] {
        if has_users {
            assert!(
                line.starts_with(&format!("the user of {own} is refused in {other}: the broker at ")),
                "{line}"
            );
            assert!(line.contains("no such virtual host for this user"), "{line}");
        } else {
            assert_eq!(*line, format!("the user of {own} may enter {other}"));
        }
    }
    for words in ["amqp://localhost/red", "amqp://localhost/red amqp://localhost:5672"] {
        let (code, error) = places[0].fail(program!("vhosts"), words).await;
        assert_eq!(code, 2);
        assert!(error.contains("name two addresses with a virtual host"), "{error}");
    }
    if has_users {
        return "yes".into();
    }
    // Without words there are two virtual hosts, which devbroker creates.
    let broker = format!("amqp://{}", places[0].vhost.address());
    let mut program = start_at(&broker, program!("vhosts"), "");
    assert_eq!(program.0.exit_code().await, Some(0), "{}", program.errors());
    let expected = [
        "red has: for red",
        "blue has: for blue",
        "the user of red may enter blue",
        "the user of blue may enter red",
    ];
    assert_eq!(program.lines(), expected);
    "yes, with one user for all".into()
}

pub(crate) async fn firehose() -> String {
    let place = Place::new().await;
    let all = place.listen(program!("firehose"), "").await;
    let deliveries = place.listen(program!("firehose"), "deliver.#").await;
    assert_eq!(deliveries.lines(), ["waiting for deliver.#; Ctrl-C stops it"]);
    place.run(program!("emit_log"), "before").await;
    place.vhost.trace(true).await;
    place.run(program!("send"), "").await;
    let published = ["publish. key=hello queues=hello: Hello, rabbit"];
    assert_eq!(all.heard(1).await, published);
    // The message returns to its queue, and is delivered once more.
    until("a delivery", PATIENCE, async || place.vhost.messages("hello").await.pop()).await;
    let delivered =
        ["deliver.hello key=hello: Hello, rabbit", "deliver.hello key=hello again: Hello, rabbit"];
    assert_eq!(all.heard(2).await[1..], delivered[..1]);
    let receiver = place.listen(program!("receive"), "").await;
    assert_eq!(all.heard(3).await[1..], delivered);
    receiver.interrupt().await;
    place.run(program!("emit_log"), "nobody hears").await;
    let unheard = ["publish.logs key= queues=: nobody hears"];
    assert_eq!(all.heard(4).await[3..], unheard);
    place.vhost.trace(false).await;
    place.run(program!("emit_log"), "afterwards").await;
    assert_eq!(all.interrupt().await, [&published[..], &delivered, &unheard].concat());
    assert_eq!(deliveries.interrupt().await, delivered);
    "yes".into()
}
