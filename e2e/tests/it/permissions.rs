//! A broker user for each service: the permissions of `rabbitmq-users.json` are enough for all that a service does, and no more.

use e2e::{
    broker::SharedBroker,
    fixture::TestSystem,
    load::Record,
    process::{Launch, Service},
    repository,
    wait::{PATIENCE, until_true},
};
use lapin::{
    BasicProperties, Channel,
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions, QueueDeclareOptions,
    },
    types::FieldTable,
};
use serde_json::Value;
use tempfile::TempDir;

const PASSWORD: &str = "its password";

/// The users of the stack, each with the name of this test's virtual host before its own.
struct Users<'a> {
    system: &'a TestSystem,
}

impl<'a> Users<'a> {
    async fn new(system: &'a TestSystem) -> Self {
        let users = Self { system };
        let definitions: Value = serde_json::from_str(&repository::read("rabbitmq-users.json")).unwrap();
        for permissions in definitions["permissions"].as_array().unwrap() {
            let user = users.name(permissions["user"].as_str().unwrap());
            system.vhost().create_user_with(&user, PASSWORD, permissions).await;
        }
        users
    }

    fn name(&self, service: &str) -> String {
        format!("{}.{service}", self.system.vhost().user())
    }

    fn launch(&self, service: &'static str) -> Launch {
        let launch = self.system.launch(service, 1);
        launch.env("APP_AMQP_USERNAME", &self.name(service)).env("APP_AMQP_PASSWORD", PASSWORD)
    }

    /// A channel of a service's user.
    async fn channel(&self, service: &str) -> (lapin::Connection, Channel) {
        self.system.vhost().channel_as(&self.name(service), PASSWORD).await
    }
}

async fn until_ready(launch: Launch) -> Service {
    let service = launch.start().await;
    service.until_ready().await;
    service
}

#[tokio::test]
async fn each_service_does_all_its_work_as_a_user_of_its_own() {
    if !SharedBroker::from_environment().is_rabbitmq_for("it has no permissions") {
        return;
    }
    let system = TestSystem::new().await;
    let users = Users::new(&system).await;
    let repo = TempDir::new().unwrap();
    let save = |text: &str| std::fs::write(repo.path().join("vipservice.yml"), text).unwrap();
    save("offer_text: a weekend\n");
    let server =
        until_ready(users.launch("configserver").flag("config-repo", &repo.path().to_string_lossy())).await;
    let config = server.address().url("");
    // The accountservice first: it waits until the vipservice has made the queue that both name.
    let account = users.launch("accountservice").flag("config-server", &config).start().await;
    let vip =
        until_ready(users.launch("vipservice").flag("config-server", &config).flag("retry-delays", "100ms"))
            .await;
    account.until_ready().await;

    // A notification that no version reads is retried, is dead in the end, and is redriven; the others become offers.
    let newer =
        BasicProperties::default().with_type("vip.notification.v2".into()).with_message_id("newer".into());
    system.vhost().publish("vip_queue", newer, b"<newer/>").await;
    until_true("it is dead", PATIENCE, async || system.vhost().ready("vip_queue.dead").await == Some(1))
        .await;
    for words in [&["redrive", "--all"][..], &["list"], &["discard", "newer", "--yes"]] {
        until_true("it is dead again", PATIENCE, async || {
            system.vhost().ready("vip_queue.dead").await == Some(1)
        })
        .await;
        let launch = users.launch("vipservice").argument("dead-letters");
        let mut command = words.iter().fold(launch, |launch, word| launch.argument(word)).spawn();
        assert_eq!(
            command.exit_code().await,
            Some(0),
            "{words:?}: {}",
            command.log().text(e2e::log::Stream::Err)
        );
    }
    let mut record = Record::default();
    for _ in 0..5 {
        let id = system.read_vip(&account).await;
        record.sent.insert(id.clone());
        record.answered.insert(id);
    }
    system.assert_sets(&record, &account, &[&vip]).await;

    // A change reaches the vipservice over the bus.
    vip.until_following().await;
    save("offer_text: the sea\n");
    until_true("the event arrives", PATIENCE, async || vip.get("/settings").await.text.contains("the sea"))
        .await;
}

/// Tells whether the broker has refused a request with 403.
fn is_refused<T>(outcome: lapin::Result<T>) -> bool {
    outcome.err().is_some_and(|error| error.to_string().contains("ACCESS_REFUSED"))
}

#[tokio::test]
async fn a_services_user_may_do_nothing_else() {
    if !SharedBroker::from_environment().is_rabbitmq_for("it has no permissions") {
        return;
    }
    let system = TestSystem::new().await;
    let users = Users::new(&system).await;
    let vip = until_ready(users.launch("vipservice")).await;

    for (service, queue) in
        [("accountservice", "vip_queue"), ("accountservice", "vip_queue.dead"), ("configserver", "vip_queue")]
    {
        let (_connection, channel) = users.channel(service).await;
        let consume = channel.basic_consume(
            queue.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        assert!(is_refused(consume.await), "{service} consumes {queue}");
        let (_connection, channel) = users.channel(service).await;
        assert!(
            is_refused(channel.basic_get(queue.into(), BasicGetOptions::default()).await),
            "{service} gets from {queue}"
        );
    }
    // The default exchange leads to every queue: RabbitMQ cannot allow some of its routing keys. Other exchanges are closed.
    for (service, exchange) in
        [("accountservice", "amq.topic"), ("vipservice", "amq.topic"), ("configserver", "")]
    {
        let (_connection, channel) = users.channel(service).await;
        let publish = channel.basic_publish(
            exchange.into(),
            "vip_queue".into(),
            BasicPublishOptions::default(),
            b"",
            BasicProperties::default(),
        );
        let _ = publish.await;
        // A publish has no answer. The next request, which anybody may make, finds the channel closed.
        let next = channel.basic_qos(1, BasicQosOptions::default());
        assert!(next.await.is_err(), "{service} publishes to {exchange:?}");
    }
    for service in ["accountservice", "configserver", "vipservice"] {
        let (_connection, channel) = users.channel(service).await;
        let declare =
            channel.queue_declare("another".into(), QueueDeclareOptions::durable(), FieldTable::default());
        assert!(is_refused(declare.await), "{service} makes queues");
    }
    drop(vip);
}
