//! vhosts: two virtual hosts of one broker, which share no queue and no message.
//!
//! A connection belongs to the virtual host that its address names. Both have a queue `inbox`, and each gets only its
//! own message. RabbitMQ also refuses a user who has no permissions in a virtual host; devbroker has only the user
//! `guest`, who may enter all. Memory, disk and alarms are the broker's, and affect both.
//!
//! ```text
//! cargo run --bin vhosts
//! cargo run --bin vhosts amqp://ann:pw1@localhost/red amqp://bob:pw2@localhost/blue
//! ```
//!
//! Prints `red has: for red`, `blue has: for blue`, and whether the user of each `may enter` the other or `is refused`.
//! devbroker creates a virtual host when a client connects. For RabbitMQ type `rabbitmqctl add_vhost red`,
//! `rabbitmqctl add_user ann pw1`, `rabbitmqctl set_permissions -p red ann '.*' '.*' '.*'`, and the same for blue.
//! The queues are exclusive: they and their messages are deleted when the program ends.

use std::process::ExitCode;

use examples::{Failure, Result, Terminal, amqp, say};
use lapin::{BasicProperties, options, types::FieldTable};

#[tokio::main]
async fn main() -> ExitCode {
    examples::run(include_str!("vhosts.rs"), vhosts).await
}

async fn vhosts(terminal: &Terminal) -> Result {
    let local = ["red", "blue"].map(|vhost| format!("{}/{vhost}", terminal.amqp()));
    let urls = if terminal.words().is_empty() { &local } else { terminal.words() };
    let parts = urls.iter().map(|url| url.rsplit_once('/').filter(|(login, _)| login.contains("//")));
    let [Some(red), Some(blue)] = parts.collect::<Vec<_>>()[..] else {
        return Err(Failure::usage("name two addresses with a virtual host, as in amqp://localhost/red"));
    };
    let mut inboxes = vec![];
    for (login, vhost) in [red, blue] {
        let connection = amqp::connect(&format!("{login}/{vhost}")).await?;
        let channel = amqp::open_channel(&connection).await?;
        let mine = options::QueueDeclareOptions { exclusive: true, ..Default::default() };
        channel.queue_declare("inbox".into(), mine, FieldTable::default()).await?;
        amqp::publish(&channel, "", "inbox", BasicProperties::default(), &format!("for {vhost}")).await?;
        inboxes.push((vhost, connection, channel));
    }
    for (vhost, connection, channel) in inboxes {
        let no_ack = options::BasicGetOptions { no_ack: true };
        while let Some(message) = channel.basic_get("inbox".into(), no_ack).await? {
            say!("{vhost} has: {}", amqp::body(&message));
        }
        connection.close(200, "bye".into()).await?;
    }
    for ((login, own), (_, other)) in [(red, blue), (blue, red)] {
        match amqp::connect(&format!("{login}/{other}")).await {
            Ok(connection) => {
                say!("the user of {own} may enter {other}");
                connection.close(200, "bye".into()).await?;
            }
            Err(why) => say!("the user of {own} is refused in {other}: {why}"),
        }
    }
    Ok(())
}
