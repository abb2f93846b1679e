//! Values with a syntax of their own: command lines, durations, sizes, names.

use std::time::Duration;

use anyhow::{anyhow, bail};

use crate::failure::Result;

/// Splits a command line at blanks, with the quotes, backslashes and comments of a shell, and nothing else of it.
pub(super) fn split_words(line: &str) -> Result<Vec<String>> {
    let (mut words, mut word) = (vec![], None::<String>);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '#' if word.is_none() => drop(chars.by_ref().find(|c| *c == '\n')),
            '\\' => {
                let next = chars.next().ok_or_else(|| anyhow!("nothing follows the backslash at the end"))?;
                word.get_or_insert_default().push(next);
            }
            '"' | '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        None => bail!("a quote is not closed"),
                        Some(end) if end == c => break,
                        Some('\\') if c == '"' => word.extend(chars.next()),
                        Some(inner) => word.push(inner),
                    }
                }
            }
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Parses a duration as Docker writes it: numbers with units, such as `1m30s` or `1.5h`. It ends at 2^63 - 1 ns.
pub(super) fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u128); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("μs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    const LONGEST: u128 = i64::MAX as u128;
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = (!rest.is_empty()).then_some(0_u128)?;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if number.trim_matches('.').is_empty() || fraction.contains('.') {
            return None;
        }
        let whole: u64 = format!("0{whole}").parse().ok()?;
        // No unit has nanoseconds in a later digit.
        let digits = fraction.bytes().take(18).map(|digit| u128::from(digit - b'0'));
        let (fraction, scale) = digits.fold((0, 1), |(value, scale), digit| (value * 10 + digit, scale * 10));
        total += u128::from(whole) * nanos + fraction * nanos / scale;
        if total > LONGEST {
            return None;
        }
        rest = after;
    }
    u64::try_from(total).ok().map(Duration::from_nanos)
}

/// Returns true for a number of bytes below 2^63, such as `64M` or `1.5 GiB`.
pub(super) fn is_size(text: &str) -> bool {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let power = unit.chars().next().and_then(|prefix| "kmgtp".find(prefix)).map_or(0, |place| place + 1);
    let end = if power > 0 { &unit[1..] } else { &unit };
    let is_end = end.is_empty() || end == "b" || (end == "ib" && power > 0);
    let bytes = |number: f64| (0..power).fold(number, |bytes, _| bytes * 1024.0);
    is_end && number.parse().is_ok_and(|number| bytes(number) < 2_f64.powi(63))
}

/// Returns true for a name of a service, a volume or an image, which is also the name of a file or a folder: it leads
/// nowhere else.
pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// Returns true for a name with the placeholders of a task.
pub(super) fn is_name_with_placeholders(text: &str) -> bool {
    let mut parts = text.split("{{");
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let Some((_, after)) = part.split_once("}}") else { return false };
        // Each placeholder stands for a number or a name.
        name.push('0');
        name.push_str(after);
    }
    is_name(&name)
}
