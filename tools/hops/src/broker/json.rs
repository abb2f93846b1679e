//! Messages as JSON, in one form whatever broker they are at.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use serde_json::{Map, Value, json};

/// Moves the properties in the development broker's answer to the top level, where [`to_json`] has them.
pub(super) fn flatten(message: &Value) -> Value {
    let Value::Object(message) = message else { return message.clone() };
    let mut message = message.clone();
    if let Some(Value::Object(mut properties)) = message.remove("properties") {
        // Here it has lapin's name.
        if let Some(kind) = properties.remove("kind") {
            properties.insert("type".into(), kind);
        }
        message.extend(properties);
    }
    Value::Object(message)
}

/// Converts a message to JSON: each property that is set, and the body as text.
pub(super) fn to_json(properties: &BasicProperties, body: &[u8], redelivered: bool) -> Value {
    let mut map = Map::new();
    let texts = [
        ("message_id", properties.message_id()),
        ("correlation_id", properties.correlation_id()),
        ("type", properties.kind()),
        ("app_id", properties.app_id()),
        ("content_type", properties.content_type()),
        ("reply_to", properties.reply_to()),
        ("expiration", properties.expiration()),
    ];
    for (name, value) in texts {
        map.extend(value.as_ref().map(|value| (name.to_owned(), json!(value.as_str()))));
    }
    map.extend(properties.delivery_mode().map(|mode| ("delivery_mode".to_owned(), json!(mode))));
    map.extend(properties.priority().map(|priority| ("priority".to_owned(), json!(priority))));
    map.extend(properties.timestamp().map(|at| ("timestamp".to_owned(), json!(at))));
    if let Some(headers) = properties.headers() {
        map.insert("headers".into(), table(headers));
    }
    map.insert("redelivered".into(), json!(redelivered));
    map.insert("body".into(), json!(String::from_utf8_lossy(body)));
    Value::Object(map)
}

fn table(table: &FieldTable) -> Value {
    Value::Object(table.inner().iter().map(|(name, value)| (name.to_string(), field(value))).collect())
}

fn field(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::LongString(text) => json!(text.to_string()),
        AMQPValue::ShortString(text) => json!(text.as_str()),
        AMQPValue::Boolean(flag) => json!(flag),
        AMQPValue::ShortShortInt(number) => json!(number),
        AMQPValue::ShortShortUInt(number) => json!(number),
        AMQPValue::ShortInt(number) => json!(number),
        AMQPValue::ShortUInt(number) => json!(number),
        AMQPValue::LongInt(number) => json!(number),
        AMQPValue::LongUInt(number) => json!(number),
        AMQPValue::LongLongInt(number) => json!(number),
        AMQPValue::Timestamp(seconds) => json!(seconds),
        AMQPValue::Double(number) => json!(number),
        AMQPValue::FieldArray(array) => array.as_slice().iter().map(field).collect(),
        AMQPValue::FieldTable(inner) => table(inner),
        other => json!(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_the_same_json_from_each_broker() {
        let mut headers = FieldTable::default();
        headers.insert("n".into(), AMQPValue::LongInt(1));
        let properties = BasicProperties::default().with_type("k".into()).with_headers(headers);
        let expected = json!({"type": "k", "headers": {"n": 1}, "redelivered": false, "body": "{}"});
        assert_eq!(to_json(&properties, b"{}", false), expected);
        let of_development_broker =
            json!({"properties": {"kind": "k"}, "headers": {"n": 1}, "redelivered": false, "body": "{}"});
        assert_eq!(flatten(&of_development_broker), expected);
    }
}
