//! Dead letters as text for people, and as JSON for programs. Pure.

use messaging::{Message, header, retry::FailureHistory};
use output::printable;
use serde_json::{Value, json};

use super::letter::DeadLetter;

/// Width of the column of reasons where the width of the terminal is unknown.
const REASON_WIDTH: usize = 100;

/// Returns a line of headings and one for each dead letter, whose reason is cut to what is left of `width`.
pub(super) fn table(letters: &[DeadLetter], width: Option<usize>) -> String {
    let Some(first) = letters.first() else { return String::new() };
    let effect_name = first.effect.name.to_uppercase();
    let mut rows = vec![["ID", "LAST FAILED", "ATTEMPTS", "BY", &effect_name, "REASON"].map(str::to_owned)];
    rows.extend(letters.iter().map(|letter| {
        let shown = |text: &str| printable(text).into_owned();
        let text = |text: &Option<String>| shown(text.as_deref().unwrap_or("-"));
        let (at, attempts) = (text(&letter.last_failed), letter.attempts.to_string());
        [shown(&letter.id), at, attempts, text(&letter.by), effect(letter).into(), shown(&letter.reason)]
    }));
    let widest = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(widest);
    let others: usize = widths.iter().map(|width| width + 2).sum();
    let room = width.map_or(REASON_WIDTH, |width| width.saturating_sub(others).max(20));
    let mut text = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(widths) {
            text += &format!("{cell:<width$}  ");
        }
        let is_long = row[5].chars().count() > room;
        text.extend(row[5].chars().take(if is_long { room - 1 } else { room }));
        text += if is_long { "…\n" } else { "\n" };
    }
    text
}

/// Returns a dead letter in full, for a person.
pub(super) fn in_full(letter: &DeadLetter, message: &Message) -> String {
    let mut text = format!(
        "{}\n  reason: {}\n  attempts: {}\n  {}: {}\n",
        printable(&letter.id),
        printable(&letter.reason),
        letter.attempts,
        letter.effect.name,
        effect(letter)
    );
    let (mut properties, mut headers) = (json!(message), message.headers.clone());
    properties["headers"].take();
    for (field, amqp_name) in [("id", "message_id"), ("kind", "type")] {
        properties[amqp_name] = properties[field].take();
    }
    headers.remove(header::HISTORY);
    for (title, values) in [("properties", properties), ("headers", json!(headers))] {
        text += &format!("{title}:\n");
        for (name, value) in values.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            text += &format!("  {}: {}\n", printable(name), printable(&value));
        }
    }
    text += "history:\n";
    for failure in FailureHistory::of(message).failures {
        text += &format!("  {:.3}  {}  {}\n", failure.at, printable(&failure.by), printable(&failure.why));
    }
    let body = String::from_utf8_lossy(&message.body);
    text + &format!("body, {} bytes:\n{}\n", message.body.len(), printable(&body))
}

/// Returns a dead letter and what was done with it, for a program; one that is shown has its message, too.
pub(super) fn in_json(letter: &DeadLetter, message: &Message, done: &str) -> Value {
    let mut value = json!(letter);
    value["done"] = done.into();
    if done == "shown" {
        value["message"] = json!(message);
        value["history"] = json!(FailureHistory::of(message).failures);
        value["body"] = String::from_utf8_lossy(&message.body).into();
    }
    value
}

fn effect(letter: &DeadLetter) -> &'static str {
    letter.effect.exists.map_or("?", |exists| if exists { "yes" } else { "no" })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use messaging::retry::{Failure, RetryPolicy};

    use super::*;
    use crate::letter::EffectState;

    fn letter(id: &str, reason: &str) -> DeadLetter {
        DeadLetter {
            id: id.into(),
            reason: reason.into(),
            attempts: 3,
            first_failed: None,
            last_failed: Some("2026-11-20T06:27:33.757Z".into()),
            by: Some("vipservice.2".into()),
            kind: None,
            request_id: None,
            effect: EffectState { name: "offer", exists: Some(true) },
        }
    }

    #[test]
    fn a_table_is_as_wide_as_it_has_to_be_and_cuts_reasons_only() {
        assert_eq!(table(&[], None), "");
        let unknown = EffectState { name: "offer", exists: None };
        let nameless =
            DeadLetter { last_failed: None, by: None, effect: unknown, ..letter("a-longer-id", "€") };
        let letters = [letter("7", &"r".repeat(200)), nameless];
        let shown = table(&letters, None);
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines[0], "ID           LAST FAILED               ATTEMPTS  BY            OFFER  REASON");
        let start = "7            2026-11-20T06:27:33.757Z  3         vipservice.2  yes    ";
        assert_eq!(lines[1], format!("{start}{}…", "r".repeat(99)));
        assert_eq!(lines[2], "a-longer-id  -                         3         -             ?      €");
        for (width, reason) in [(100, 30), (10, 20), (1000, 200)] {
            let line = table(&letters, Some(width)).lines().nth(1).unwrap().chars().count();
            assert_eq!(line, start.len() + reason, "{width}");
        }
    }

    #[test]
    fn what_somebody_else_wrote_gives_the_terminal_no_orders() {
        let evil = "\u{1b}[2J\r\nyes";
        let message = Message { id: Some(evil.into()), body: evil.into(), ..Message::default() };
        for text in [table(&[letter(evil, evil)], None), in_full(&letter(evil, evil), &message)] {
            assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{text:?}");
            assert!(text.contains(r"\u001b[2J\r\nyes"), "{text}");
        }
    }

    #[test]
    fn all_of_a_letter_is_shown_to_people_and_to_programs() {
        let headers = [("traceparent".to_owned(), "00-1".to_owned())].into();
        let message = Message { kind: Some("k.v1".into()), headers, body: "{}".into(), ..Message::default() };
        let at = Timestamp::UNIX_EPOCH;
        let failure = Failure { at, by: "v.1".into(), why: "no JSON".into() };
        let message = RetryPolicy::new("q", &[]).dead_letter(&message, failure).1;
        let expected = "7\n  reason: no JSON\n  attempts: 3\n  offer: yes\nproperties:\n  type: k.v1\nheaders:\n  \
            traceparent: 00-1\n  x-hops-attempt: 1\n  x-hops-reason: no JSON\nhistory:\n  \
            1970-01-01T00:00:00.000Z  v.1  no JSON\nbody, 2 bytes:\n{}\n";
        assert_eq!(in_full(&letter("7", "no JSON"), &message), expected);
        let value = in_json(&letter("7", "no JSON"), &message, "shown");
        assert_eq!(
            (&value["done"], &value["body"], &value["message"]["kind"]),
            (&"shown".into(), &"{}".into(), &"k.v1".into())
        );
        assert_eq!(value["history"][0]["why"], "no JSON");
        assert_eq!(in_json(&letter("7", ""), &message, "discarded").get("body"), None);
    }
}
