//! Comparison of the output with what the page prints: the lines are the same, except for what differs from run to run.

use std::collections::BTreeMap;

/// Patterns of parts that differ from run to run: `x` is a hexadecimal digit, `0` a decimal one, all else itself.
const ANY: [(&str, &str); 8] = [
    ("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "<id>"),
    ("walk-xxxxxxxx", "<id>"),
    ("read-xxxxxxxx", "<id>"),
    ("0000-00-00T00:00:00", "<instant>"),
    ("00:00:00", "<time>"),
    ("127.0.0.1:00000", "127.0.0.1:<port>"),
    ("port=00000", "port=<port>"),
    // Connections go round, so which of them answers is chance.
    ("accountservice.0", "accountservice.<n>"),
];

/// Compares all lines.
pub(super) fn is_as_printed(printed: &[String], came: &[String]) -> bool {
    let all = |lines: &[String]| lines.iter().map(|line| masked(line)).collect::<Vec<_>>();
    fit(&all(printed), &all(came))
}

/// Compares one line.
pub(super) fn is_line(printed: &str, came: &str) -> bool {
    fits(&masked(printed), &masked(came))
}

/// Tells whether cargo says here what it does: its verbs end in the 12th column.
pub(super) fn is_of_cargo(line: &str) -> bool {
    const VERBS: [&str; 8] =
        ["Blocking", "Checking", "Compiling", "Downloaded", "Downloading", "Finished", "Locking", "Running"];
    VERBS.iter().any(|verb| line.strip_prefix(&format!("{verb:>12} ")).is_some_and(|what| !what.is_empty()))
}

fn fit(printed: &[String], came: &[String]) -> bool {
    match printed {
        [] => came.is_empty(),
        [dots, rest @ ..] if dots == "..." => (0..=came.len()).any(|n| fit(rest, &came[n..])),
        [first, ..] => {
            let timed = printed.iter().take_while(|line| is_timed(line)).count();
            let (now, later) = printed.split_at(if is_timed(first) { timed } else { 1 });
            came.len() >= now.len()
                && are_in_any_order(now, &came[..now.len()])
                && fit(later, &came[now.len()..])
        }
    }
}

/// A line of one process among several, which begins with the time: the next one may come before it.
fn is_timed(masked: &str) -> bool {
    masked.starts_with("<time>") || masked.starts_with("<measured>")
}

fn are_in_any_order(printed: &[String], came: &[String]) -> bool {
    let mut left = came.to_vec();
    printed.iter().all(|line| {
        let found = left.iter().position(|came| fits(line, came));
        found.map(|index| left.remove(index)).is_some()
    })
}

fn fits(printed: &str, came: &str) -> bool {
    let pieces: Vec<_> = printed.split("...").collect();
    let [first, between @ .., last] = &pieces[..] else { return printed == came };
    let Some(mut rest) = came.strip_prefix(first) else { return false };
    for piece in between {
        let Some((_, after)) = rest.split_once(piece) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

/// A line without what differs from run to run.
fn masked(line: &str) -> String {
    if let Ok(numbers) = serde_json::from_str::<BTreeMap<String, u64>>(line) {
        return format!("{:?} together {}", numbers.keys(), numbers.values().sum::<u64>());
    }
    let mut words: Vec<String> = line.split_whitespace().map(shapes_masked).collect();
    for n in 0..words.len() {
        if is_measured(&words[n]) {
            words[n] = "<measured>".into();
        } else if n > 0 && words[n - 1].ends_with("process") {
            words[n] = words[n].replace(|c: char| c.is_ascii_digit(), "");
        }
    }
    words.join(" ")
}

/// Milliseconds, seconds and MiB have one decimal place: `3.2`.
fn is_measured(word: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    word.split_once('.').is_some_and(|(whole, part)| is_number(whole) && is_number(part) && part.len() == 1)
}

fn shapes_masked(word: &str) -> String {
    let (mut masked, mut rest) = (String::new(), word);
    while let Some(first) = rest.chars().next() {
        if let Some((shape, name)) = ANY.iter().find(|(shape, _)| has_shape(rest, shape)) {
            masked.push_str(name);
            rest = &rest[shape.len()..];
            if *name == "<instant>" {
                // The fraction has as many digits as it needs.
                rest = rest.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
            }
        } else {
            masked.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    masked
}

fn has_shape(text: &str, shape: &str) -> bool {
    let fits = |(byte, shape): (u8, u8)| match shape {
        b'x' => byte.is_ascii_hexdigit(),
        b'0' => byte.is_ascii_digit(),
        _ => byte == shape,
    };
    text.len() >= shape.len() && text.bytes().zip(shape.bytes()).all(fits)
}
