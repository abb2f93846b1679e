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

/// Parses a duration as Docker writes it: numbers with units, such as `1m30s` or `1.5h`. It has at most 2^63 ns.
pub(super) fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("μs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = (!rest.is_empty()).then_some(Duration::ZERO)?;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let whole = unit != "ns" || !number.contains('.');
        let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit && whole)?;
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = after;
    }
    // Below the limit by a second, since the numbers above are not exact.
    (total.as_secs() < 9_223_372_036).then_some(total)
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
