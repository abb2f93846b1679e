//! A message as AMQP's properties, and back.

use std::collections::BTreeMap;

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, LongString, ShortString},
};

use super::fault::{Fault, short};
use crate::Message;

/// Persistent: <https://www.rabbitmq.com/docs/publishers#message-properties>.
const PERSISTENT: u8 = 2;

type Setter = fn(BasicProperties, ShortString) -> BasicProperties;

pub(super) fn to_properties(message: &Message) -> Result<BasicProperties, Fault> {
    let mut headers = FieldTable::default();
    for (name, value) in &message.headers {
        headers.insert(short(name)?, AMQPValue::LongString(LongString::from(value.as_str())));
    }
    let mut properties = BasicProperties::default().with_delivery_mode(PERSISTENT).with_headers(headers);
    for (value, set) in [
        (&message.id, BasicProperties::with_message_id as Setter),
        (&message.kind, BasicProperties::with_type),
        (&message.content_type, BasicProperties::with_content_type),
        (&message.content_encoding, BasicProperties::with_content_encoding),
        (&message.correlation_id, BasicProperties::with_correlation_id),
        (&message.app_id, BasicProperties::with_app_id),
    ] {
        if let Some(value) = value {
            properties = set(properties, short(value)?);
        }
    }
    if let Some(timestamp) = message.timestamp {
        properties = properties.with_timestamp(timestamp);
    }
    Ok(properties)
}

/// Reads a message out of its properties.
#[must_use]
pub fn to_message(properties: &BasicProperties, body: Vec<u8>) -> Message {
    let table = properties.headers().iter().flat_map(|table| table.inner());
    let mut headers: BTreeMap<_, _> =
        table.filter_map(|(name, value)| Some((name.to_string(), to_text(value)?))).collect();
    if let Some(reason) = last_death(properties) {
        headers.entry(LAST_DEATH_REASON.to_owned()).or_insert(reason);
    }
    let text = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string);
    Message {
        id: text(properties.message_id()),
        kind: text(properties.kind()),
        content_type: text(properties.content_type()),
        content_encoding: text(properties.content_encoding()),
        correlation_id: text(properties.correlation_id()),
        app_id: text(properties.app_id()),
        timestamp: *properties.timestamp(),
        headers,
        body: body.into(),
    }
}

/// Header with the broker's reason for its last dead-lettering. RabbitMQ 4 sends it; older versions have the reason in
/// the first entry of `x-death` only (<https://www.rabbitmq.com/docs/dlx#effects>).
const LAST_DEATH_REASON: &str = "x-last-death-reason";

fn last_death(properties: &BasicProperties) -> Option<String> {
    let AMQPValue::FieldArray(deaths) = properties.headers().as_ref()?.inner().get("x-death")? else {
        return None;
    };
    let AMQPValue::FieldTable(newest) = deaths.as_slice().first()? else { return None };
    to_text(newest.inner().get("reason")?)
}

fn to_text(value: &AMQPValue) -> Option<String> {
    Some(match value {
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        AMQPValue::ShortString(text) => text.to_string(),
        AMQPValue::Boolean(value) => value.to_string(),
        AMQPValue::Timestamp(value) => value.to_string(),
        // RabbitMQ's versions write the same header with different types.
        AMQPValue::ShortShortInt(n) => n.to_string(),
        AMQPValue::ShortShortUInt(n) => n.to_string(),
        AMQPValue::ShortInt(n) => n.to_string(),
        AMQPValue::ShortUInt(n) => n.to_string(),
        AMQPValue::LongInt(n) => n.to_string(),
        AMQPValue::LongUInt(n) => n.to_string(),
        AMQPValue::LongLongInt(n) => n.to_string(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_out_of_its_properties_as_it_went_in() {
        let text = |text: &str| Some(text.to_owned());
        let message = Message {
            id: text("7"),
            kind: text("vip.notification.v1"),
            content_type: text("application/json"),
            content_encoding: text("identity"),
            correlation_id: text("7f3a"),
            app_id: text("accountservice"),
            timestamp: Some(1_763_620_000),
            headers: [("traceparent".to_owned(), "00-1-2-01".to_owned())].into(),
            body: "1".into(),
        };
        let properties = to_properties(&message).unwrap();
        assert_eq!(properties.delivery_mode(), &Some(2));
        assert_eq!(to_message(&properties, message.body.to_vec()), message);
    }

    #[test]
    fn numbers_of_every_width_are_read_and_tables_are_left_out() {
        let mut headers = FieldTable::default();
        headers.insert("count".into(), AMQPValue::LongLongInt(3));
        headers.insert("small".into(), AMQPValue::ShortShortUInt(4));
        headers.insert("x-death".into(), AMQPValue::FieldArray(vec![].into()));
        let message = to_message(&BasicProperties::default().with_headers(headers), vec![]);
        assert_eq!(message.headers["count"], "3");
        assert_eq!(message.headers["small"], "4");
        assert!(!message.headers.contains_key("x-death"));
    }

    #[test]
    fn the_last_death_is_found_where_older_brokers_write_it() {
        let death = |reason: &str| {
            let mut death = FieldTable::default();
            death.insert("reason".into(), AMQPValue::LongString(reason.into()));
            AMQPValue::FieldTable(death)
        };
        let mut headers = FieldTable::default();
        headers.insert("x-first-death-reason".into(), AMQPValue::LongString("expired".into()));
        let deaths = vec![death("delivery_limit"), death("expired")];
        headers.insert("x-death".into(), AMQPValue::FieldArray(deaths.into()));
        let message = to_message(&BasicProperties::default().with_headers(headers), vec![]);
        assert_eq!(message.headers["x-last-death-reason"], "delivery_limit");
    }

    #[test]
    fn a_name_that_is_too_long_is_an_error_and_no_panic() {
        assert!(matches!(short(&"n".repeat(256)), Err(Fault::Refused(_))));
    }
}
