//! Plain scalars of YAML 1.1, as SnakeYAML reads them: `yes` is a boolean, `017` is 15, `12:30:45` is 45045.
//!
//! Dates stay text, as with Spring Boot.

use std::fmt;

use num_bigint::BigUint;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// Limit for the bytes of a number: SnakeYAML takes a longer scalar for a text.
const MAX_NUMBER_LENGTH: usize = 1024;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar {
    /// True or false.
    Bool(bool),
    /// A number as Java prints it; an integer of any size is exact. Also `NaN`, `Infinity`, `-Infinity`.
    Number(String),
    /// A text.
    Text(String),
}

impl Scalar {
    /// Creates a text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Number(text) | Self::Text(text) => f.write_str(text),
        }
    }
}

impl Serialize for Scalar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(value) => serializer.serialize_bool(*value),
            // As it is, since a number type would lose digits; JSON has no words for NaN and infinity.
            Self::Number(number) => match RawValue::from_string(number.clone()) {
                Ok(number) => number.serialize(serializer),
                Err(_) => serializer.serialize_str(number),
            },
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

/// Returns the value of a plain scalar; `None` is null.
#[must_use]
pub fn resolve(text: &str) -> Option<Scalar> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => None,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(Scalar::Bool(true)),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Some(Scalar::Bool(false)),
        _ => Some(number(text).map_or_else(|| Scalar::text(text), Scalar::Number)),
    }
}

/// Returns the number that a text stands for, as Java prints it.
#[must_use]
pub fn number(text: &str) -> Option<String> {
    let first = text.bytes().next()?;
    if text.len() > MAX_NUMBER_LENGTH || !(first.is_ascii_digit() || b"+-.".contains(&first)) {
        return None;
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let negative = first == b'-';
    if let Some(digits) = integer(unsigned) {
        let is_zero = digits == "0";
        return Some(if negative && !is_zero { format!("-{digits}") } else { digits });
    }
    let value = float(unsigned, text)?;
    Some(java_double(if negative { -value } else { value }))
}

/// An integer without its sign, in decimal digits.
fn integer(text: &str) -> Option<String> {
    let all = |text: &str, digits: &[u8]| text.bytes().all(|b| b == b'_' || digits.contains(&b));
    const HEX: &[u8] = b"0123456789abcdefABCDEF";
    let starts = |text: &str, digits: &[u8]| {
        text.trim_start_matches('_').bytes().next().is_some_and(|b| digits.contains(&b))
    };
    let based = |text: &str, base: u32| {
        let digits = &HEX[..if base == 16 { HEX.len() } else { base as usize }];
        let digits = (starts(text, digits) && all(text, digits)).then(|| text.replace('_', ""))?;
        BigUint::parse_bytes(digits.as_bytes(), base).map(|number| number.to_string())
    };
    if text == "0" {
        return Some(text.into());
    }
    if let Some(rest) = text.strip_prefix('0') {
        return match (rest.strip_prefix('b'), rest.strip_prefix('x')) {
            (Some(rest), _) => based(rest, 2),
            (_, Some(rest)) => based(rest, 16),
            _ => based(rest, 8),
        };
    }
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (head, sixtieths) = text.split_once(':').map_or((text, None), |(head, rest)| (head, Some(rest)));
    if !all(head, &HEX[..10]) {
        return None;
    }
    let Some(sixtieths) = sixtieths else { return Some(head.replace('_', "")) };
    let mut value: u64 = head.replace('_', "").parse().ok()?;
    for part in sixtieths.split(':') {
        value = value.checked_mul(60)?.checked_add(sixtieth(part)?)?;
    }
    Some(value.to_string())
}

/// `[0-5]?[0-9]`
fn sixtieth(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|b| b.is_ascii_digit()) && (1..=2).contains(&text.len());
    text.parse().ok().filter(|value| digits && *value < 60)
}

/// A float without its sign. `signed` is the whole text: `-.nan` is none.
fn float(text: &str, signed: &str) -> Option<f64> {
    match text {
        ".inf" | ".Inf" | ".INF" => return Some(f64::INFINITY),
        ".nan" | ".NaN" | ".NAN" if text == signed => return Some(f64::NAN),
        _ => {}
    }
    let (whole, exponent) = match text.split_once(['e', 'E']) {
        Some((whole, exponent)) => (whole, Some(exponent)),
        None => (text, None),
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let (head, fraction) = whole.split_once('.').map_or((whole, None), |(head, rest)| (head, Some(rest)));
    let exponent_is_right = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    });
    if !exponent_is_right || !fraction.is_none_or(digits) || (fraction.is_none() && exponent.is_none()) {
        return None;
    }
    if let (Some((hours, sixtieths)), None) = (head.split_once(':'), exponent) {
        let mut value: f64 = hours.replace('_', "").parse().ok().filter(|_| digits(hours))?;
        for part in sixtieths.split(':') {
            value = value * 60.0 + f64::from(u32::try_from(sixtieth(part)?).ok()?);
        }
        let fraction: f64 = format!("0.{}", fraction?.replace('_', "")).parse().ok()?;
        return Some(value + fraction);
    }
    if !digits(head) || head.starts_with('_') || (head.is_empty() && fraction.is_none_or(str::is_empty)) {
        return None;
    }
    text.replace('_', "").parse().ok()
}

/// A double as Java prints it: `1000.0`, `1.0E10`.
fn java_double(value: f64) -> String {
    if !value.is_finite() {
        let text = if value.is_nan() { "NaN" } else { "Infinity" };
        return if value < 0.0 { format!("-{text}") } else { text.into() };
    }
    let size = value.abs();
    if size == 0.0 || (1e-3..1e7).contains(&size) {
        return format!("{value:?}");
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let point = if mantissa.contains('.') { "" } else { ".0" };
    format!("{mantissa}{point}E{exponent}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_are_those_of_yaml_1_1() {
        for (text, number) in [
            ("0", "0"),
            ("-0", "0"),
            ("+12", "12"),
            ("017", "15"),
            ("0_17", "15"),
            ("0b101", "5"),
            ("-0x1F", "-31"),
            ("1_000", "1000"),
            ("12:30:45", "45045"),
            ("190:20:30.15", "685230.15"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            ("0xFFFFFFFFFFFFFFFFFFFF", "1208925819614629174706175"),
            ("1e3", "1000.0"),
            ("1.", "1.0"),
            (".5", "0.5"),
            ("-1.5", "-1.5"),
            ("1e10", "1.0E10"),
            ("1.25e-5", "1.25E-5"),
            ("685.230_15e+03", "685230.15"),
            (".inf", "Infinity"),
            ("-.INF", "-Infinity"),
            (".NaN", "NaN"),
        ] {
            assert_eq!(resolve(text), Some(Scalar::Number(number.into())), "{text}");
        }
    }

    #[test]
    fn booleans_and_nulls_have_many_names() {
        for text in ["yes", "Yes", "YES", "true", "On"] {
            assert_eq!(resolve(text), Some(Scalar::Bool(true)), "{text}");
        }
        for text in ["no", "FALSE", "off"] {
            assert_eq!(resolve(text), Some(Scalar::Bool(false)), "{text}");
        }
        for text in ["", "~", "null", "NULL"] {
            assert_eq!(resolve(text), None, "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_a_number_is_text() {
        for text in [
            "0o14",
            "08",
            "yEs",
            "y",
            "1.2.3",
            "12:60",
            "2026-11-20",
            "1e",
            "e3",
            ".",
            "-",
            "+",
            "-.nan",
            "_1",
            "0x",
            "0b2",
            "1:",
            "12:3:",
            "1__:",
            "._",
            "nULL",
            "0xg",
            "--1",
            "1 ",
            "tRUE",
        ] {
            assert_eq!(resolve(text), Some(Scalar::text(text)), "{text}");
        }
        let long = "1".repeat(MAX_NUMBER_LENGTH + 1);
        assert_eq!(resolve(&long), Some(Scalar::text(&long)));
    }
}
