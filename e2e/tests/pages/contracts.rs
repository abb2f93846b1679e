//! `docs/contracts`: what is really published is as its schemas say, and what is declared as the AsyncAPI document has it.

use std::collections::{BTreeMap, BTreeSet};

use accountservice::settings::Settings as AccountSettings;
use config_bus::{BusId, Change, Event, SPRING_CLOUD_BUS};
use contracts::topology::{ACCOUNTS, account_changes, offers, vip_queue};
use e2e::{
    broker::{StoredMessage, Vhost},
    fixture::TestSystem,
    http::Reply,
    repository::{read, root},
    wait::{PATIENCE, until},
};
use futures_util::StreamExt as _;
use lapin::{
    options::{BasicConsumeOptions, BasicGetOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use messaging::topology::{Argument, Topology};
use saphyr::{LoadableYamlNode as _, Scalar, Yaml};
use serde_json::{Map, Value, json};
use tokio::time::timeout;
use vipservice::settings::Settings as VipSettings;

const NOTIFICATION: &str = "vip.notification.v1.schema.json";
const OFFER: &str = "offer.v1.schema.json";
const CHANGE: &str = "account.change.v1.schema.json";
const RENEWAL: &str = "account.renewal.v1.schema.json";
const CREATED: &str = "account.created.v1.schema.json";
const CHANGED: &str = "account.changed.v1.schema.json";
const DELETED: &str = "account.deleted.v1.schema.json";
const HEADERS: &str = "event-headers.schema.json";
const BUS_EVENT: &str = "bus-event.schema.json";

/// A file of the contracts.
fn contract(name: &str) -> Value {
    serde_json::from_str(&read(format!("docs/contracts/{name}"))).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// A value is as the schema says, and has no field that the schema does not describe, but those whose names begin so.
#[track_caller]
fn check(schema: &str, value: &Value, others: &[&str]) {
    let contract = contract(schema);
    let validator = jsonschema::validator_for(&contract).unwrap();
    let errors: Vec<_> = validator.iter_errors(value).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{value:#} is not as {schema} says: {errors:#?}");
    for name in value.as_object().unwrap().keys() {
        let is_known = !contract["properties"][name].is_null() || others.iter().any(|o| name.starts_with(o));
        assert!(is_known, "{schema} does not describe {name}");
    }
}

/// Headers as JSON; texts and numbers.
fn headers(message: &StoredMessage) -> Value {
    let table = message.properties.headers().clone().unwrap_or_default();
    let headers = table.inner().iter().map(|(name, value)| {
        let value = match value {
            AMQPValue::LongString(text) => json!(text.to_string()),
            AMQPValue::LongLongInt(number) => json!(number),
            other => json!(format!("{other:?}")),
        };
        (name.to_string(), value)
    });
    Value::Object(headers.collect())
}

/// A message of ours is as its contract says, from its body to its properties.
#[track_caller]
fn check_event(schema: &str, message: &StoredMessage) {
    check(schema, &serde_json::from_slice(&message.body).unwrap(), &[]);
    check(HEADERS, &headers(message), &["x-stream-offset", "x-delivery-count"]);
    let properties = &message.properties;
    let kind = schema.trim_end_matches(".schema.json");
    assert_eq!(properties.kind().as_ref().map(|kind| kind.as_str()), Some(kind));
    assert_eq!(message.header("cloudEvents_type").as_deref(), Some(kind));
    assert_eq!(properties.content_type().as_ref().map(|text| text.as_str()), Some("application/json"));
    assert_eq!(properties.delivery_mode().unwrap_or(2), 2, "persistent");
    assert!(properties.app_id().is_some() && properties.timestamp().is_some(), "{properties:?}");
    assert!(properties.correlation_id().is_some(), "{properties:?}");
    let id = properties.message_id().as_ref().map(ToString::to_string);
    assert!(id.is_some() && id == message.header("cloudEvents_id"), "{properties:?}");
}

async fn first_of_stream(vhost: &Vhost, stream: &str) -> StoredMessage {
    let (_connection, channel) = vhost.channel().await;
    channel.basic_qos(1, BasicQosOptions::default()).await.unwrap();
    let mut first = FieldTable::default();
    first.insert("x-stream-offset".into(), AMQPValue::LongString("first".into()));
    let consume = channel.basic_consume(stream.into(), "".into(), BasicConsumeOptions::default(), first);
    let entry = timeout(PATIENCE, consume.await.unwrap().next()).await.expect("an entry in time");
    entry.unwrap().unwrap().into()
}

#[tokio::test]
async fn what_is_published_is_as_the_schemas_say() {
    let system = TestSystem::new().await;
    let account = system.accountservice().await;
    system.read_vip(&account).await;
    let first = async |queue: &str| {
        until(queue, PATIENCE, async || system.vhost().messages(queue).await.into_iter().next()).await
    };
    check_event(NOTIFICATION, &first("vip_queue").await);

    // One that finds every notification too long.
    let faulty = system.launch("vipservice", 1).flag("notification-limit", "10").start().await;
    let dead = first("vip_queue.dead").await;
    check_event(NOTIFICATION, &dead);
    let history: Value = serde_json::from_str(&dead.header("x-hops-history").unwrap()).unwrap();
    assert!(["at", "by", "why"].iter().all(|key| history[0][key].is_string()), "{history}");
    assert!(dead.header("x-hops-reason").is_some() && dead.header("x-hops-attempt").is_some());
    drop(faulty);

    let vip = system.vipservice(2).await;
    system.read_vip(&account).await;
    system.until_offers(&vip, 1).await;
    check_event(OFFER, &first_of_stream(system.vhost(), "offers").await);
}

#[tokio::test]
async fn what_is_said_of_accounts_is_as_the_schemas_say() {
    let system = TestSystem::new().await;
    let account = system.accountservice().await;
    check_event(CHANGE, &first_of_stream(system.vhost(), "account_changes").await);
    let (_connection, channel) = system.vhost().channel().await;
    channel
        .queue_declare("heard".into(), QueueDeclareOptions::default(), FieldTable::default())
        .await
        .unwrap();
    let (options, everything) = (QueueBindOptions::default(), "#".into());
    let bind =
        channel.queue_bind("heard".into(), ACCOUNTS.into(), everything, options, FieldTable::default());
    bind.await.unwrap();
    for (method, if_match, body, schema) in [
        ("POST", None, r#"{"id":"7","name":"Ada","vip":true}"#, CREATED),
        ("PUT", Some("\"1\""), r#"{"id":"7","name":"Ada"}"#, CHANGED),
        ("DELETE", Some("\"2\""), "", DELETED),
    ] {
        let path = if if_match.is_some() { "/accounts/7" } else { "/accounts" };
        let mut request = account.request(method, path).header("content-type", "application/json");
        if let Some(tag) = if_match {
            request = request.header("if-match", tag);
        }
        let answer = Reply::of(request.body(body)).await.unwrap();
        assert!((200..300).contains(&answer.status), "{}", answer.text);
        let event = until(schema, PATIENCE, async || {
            channel.basic_get("heard".into(), BasicGetOptions { no_ack: true }).await.unwrap()
        });
        check_event(schema, &event.await.delivery.into());
    }
}

#[tokio::test]
async fn what_the_bus_carries_is_as_its_schema_says() {
    let (system, repository) = (TestSystem::new().await, tempfile::tempdir().unwrap());
    let folder = repository.path().to_string_lossy().into_owned();
    let server = system.launch("configserver", 1).flag("config-repo", &folder).start().await;
    server.until_ready().await;
    let vip = system.launch("vipservice", 1).flag("config-server", &server.address().url("")).start().await;
    vip.until_ready().await;
    vip.until_following().await;
    // The services have declared the exchange; whoever listens has a queue of its own.
    let (_connection, channel) = system.vhost().channel().await;
    let mine = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    channel.queue_declare("heard".into(), mine, FieldTable::default()).await.unwrap();
    let (options, everything) = (QueueBindOptions::default(), "#".into());
    let bind = channel.queue_bind(
        "heard".into(),
        SPRING_CLOUD_BUS.into(),
        everything,
        options,
        FieldTable::default(),
    );
    bind.await.unwrap();

    // An editor's change of the vipservice's file becomes an event, and the vipservice says that it has acted on it.
    std::fs::write(repository.path().join("vipservice.yml"), "offer_text: A carrot\n").unwrap();
    let mut kinds = BTreeSet::new();
    while kinds.len() < 2 {
        let next = until("an event of the bus", PATIENCE, async || {
            channel.basic_get("heard".into(), BasicGetOptions { no_ack: true }).await.unwrap()
        });
        let event: Value = serde_json::from_slice(&next.await.delivery.data).unwrap();
        check(BUS_EVENT, &event, &[]);
        kinds.insert(event["type"].as_str().unwrap().to_owned());
    }
    assert_eq!(
        kinds,
        BTreeSet::from(["AckRemoteApplicationEvent", "RefreshRemoteApplicationEvent"].map(Into::into))
    );
    drop(vip);
}

#[test]
fn events_of_the_bus_are_as_their_schema_says() {
    let (server, vip) = (BusId::new("configserver", "dev", "1"), BusId::new("vipservice", "dev", "1"));
    let refresh = Event::new(&server, Some("vipservice"), Change::Refresh);
    let values = BTreeMap::from([("offer_text".to_owned(), "A carrot".to_owned())]);
    for event in [refresh.ack(&vip), Event::new(&server, None, Change::Environment(values)), refresh] {
        let message = event.message().unwrap();
        check(BUS_EVENT, &serde_json::from_slice(&message.body).unwrap(), &[]);
    }
}

#[test]
fn schemas_take_their_examples_and_miss_every_field() {
    for name in [NOTIFICATION, OFFER, CHANGE, RENEWAL, CREATED, CHANGED, DELETED, BUS_EVENT] {
        let schema = contract(name);
        let validator = jsonschema::validator_for(&schema).unwrap();
        let example = &schema["examples"][0];
        check(name, example, &[]);
        for field in schema["required"].as_array().unwrap() {
            let field = field.as_str().unwrap();
            let mut without: Map<_, _> = example.as_object().unwrap().clone();
            without.remove(field);
            assert!(!validator.is_valid(&Value::Object(without)), "{name}: {field} is not missed");
            let mut wrong = example.clone();
            wrong[field] = json!([]);
            assert!(!validator.is_valid(&wrong), "{name}: {field} may be anything");
        }
        let mut newer = example.clone();
        newer["of a minor version"] = json!(1);
        assert!(validator.is_valid(&newer), "{name}: a field that is not known passes");
    }
}

/// YAML as JSON.
fn to_json(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(Scalar::String(text)) => json!(text),
        Yaml::Value(Scalar::Integer(number)) => json!(number),
        Yaml::Value(Scalar::Boolean(flag)) => json!(flag),
        Yaml::Value(Scalar::FloatingPoint(number)) => json!(number.into_inner()),
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Sequence(items) => items.iter().map(to_json).collect(),
        Yaml::Mapping(entries) => {
            let key = |key: &Yaml<'_>| key.as_str().unwrap_or_else(|| panic!("{key:?}")).to_owned();
            entries.iter().map(|(name, value)| (key(name), to_json(value))).collect::<Map<_, _>>().into()
        }
        other => panic!("{other:?} is not expected in the document"),
    }
}

pub(crate) fn document(name: &str) -> Value {
    let text = read(format!("docs/contracts/{name}"));
    to_json(&Yaml::load_from_str(&text).unwrap()[0])
}

fn asyncapi() -> Value {
    document("asyncapi.yaml")
}

/// All that the two services declare with their default settings, each queue once.
fn declared() -> Topology {
    let (account, vip) = (AccountSettings::default(), VipSettings::default());
    let mut topology = vip_queue(account.vip_queue.vip_queue_max_length)
        .with_retry_queues(&vip.consumer.retry_policy())
        .with_queue(offers(vip.offers.offers_max_bytes))
        .with_queue(account_changes(account.accounts.account_changes_max_bytes))
        .with_exchange(ACCOUNTS)
        .with_exchange(SPRING_CLOUD_BUS);
    topology.queues.dedup();
    topology
}

#[test]
fn the_asyncapi_document_has_what_is_declared() {
    let document = asyncapi();
    assert_eq!(document["asyncapi"], "3.0.0");
    let channels = document["channels"].as_object().unwrap();
    let topology = declared();
    let names = topology.queues.iter().map(|queue| &queue.name).chain(&topology.exchanges);
    assert_eq!(channels.keys().collect::<BTreeSet<_>>(), names.collect());
    for queue in &topology.queues {
        let (channel, name) = (&channels[&queue.name], &queue.name);
        assert_eq!(channel["address"], **name);
        let expected = json!({"name": name, "durable": true, "exclusive": false, "autoDelete": false});
        assert_eq!(channel["bindings"]["amqp"]["queue"], expected, "{name}");
        let arguments = queue.arguments.iter().map(|(argument, value)| {
            let value = match value {
                Argument::Text(text) => json!(text),
                Argument::Number(number) => json!(number),
            };
            ((*argument).to_owned(), value)
        });
        assert_eq!(channel["x-arguments"], Value::Object(arguments.collect()), "{name}");
    }
    for exchange in &topology.exchanges {
        let expected = json!({"name": exchange, "type": "topic", "durable": true, "autoDelete": false});
        assert_eq!(channels[exchange]["bindings"]["amqp"]["exchange"], expected);
    }
}

#[test]
fn whatever_the_asyncapi_document_refers_to_is_there() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let (document, mut found) = (asyncapi(), vec![]);
    references(&document, &mut found);
    let is_there = |reference: &str| match reference.split_once('#') {
        Some(("", pointer)) => document.pointer(pointer).is_some(),
        _ => root().join("docs/contracts").join(reference).is_file(),
    };
    assert!(found.len() > 20, "{found:?}");
    for reference in &found {
        assert!(is_there(reference), "{reference}");
    }
    // Each channel is used, and each schema described.
    for name in document["channels"].as_object().unwrap().keys() {
        assert!(found.contains(&format!("#/channels/{name}")), "no operation on {name}");
    }
    for schema in [NOTIFICATION, OFFER, CHANGE, RENEWAL, CREATED, CHANGED, DELETED, HEADERS, BUS_EVENT] {
        assert!(found.contains(&format!("./{schema}")), "no message has {schema}");
    }
    let messages = document["components"]["messages"].as_object().unwrap();
    for message in messages.values().filter(|message| message["bindings"].is_object()) {
        assert_eq!(message["name"], message["bindings"]["amqp"]["messageType"]);
    }
}
