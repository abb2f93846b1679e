//! Values without quotes: which are numbers, flags or nothing, by the rules of the YAML library that Docker uses.

/// Kind of a plain value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Plain {
    /// No value.
    Null,
    /// `true` or `false`.
    Flag(bool),
    /// Whole number that Docker writes as it is.
    Integer(i64),
    /// Number with a fraction that Docker writes as it is.
    Decimal,
    /// Number that Docker writes differently, such as `017` or `1.10`.
    OddNumber,
    /// Date, or infinity: no value that the file may have.
    NoValue,
    /// Any other text.
    Text,
}

/// Returns the kind of a plain value.
pub(super) fn plain(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "true" | "True" | "TRUE" => return Plain::Flag(true),
        "false" | "False" | "FALSE" => return Plain::Flag(false),
        _ => {}
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if [".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN"].contains(&unsigned) || is_date(text) {
        return Plain::NoValue;
    }
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Plain::Text;
    }
    let number = unsigned.replace('_', "");
    if !is_integer(&number) && !is_float(&number) {
        return Plain::Text;
    }
    match text.parse::<i64>() {
        Ok(number) if number.to_string() == text => Plain::Integer(number),
        _ if is_short_decimal(text) => Plain::Decimal,
        _ => Plain::OddNumber,
    }
}

/// Returns true for digits, also in base 2, 8 and 16.
fn is_integer(text: &str) -> bool {
    let base = text.get(..2).map(str::to_ascii_lowercase);
    let (digits, radix) = match base.as_deref() {
        Some("0x") => (&text[2..], 16),
        Some("0o") => (&text[2..], 8),
        Some("0b") => (&text[2..], 2),
        _ => (text, 10),
    };
    !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix))
}

/// Returns true for digits with at most one dot, and perhaps an exponent.
fn is_float(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.strip_prefix(['+', '-']).unwrap_or(exponent)),
        None => (text, "0"),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |part: &str| part.chars().all(|c| c.is_ascii_digit());
    is_digits(whole)
        && is_digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && !exponent.is_empty()
        && is_digits(exponent)
}

/// Returns true for a number such as `0.5`, which every program writes in this way, Docker below a million.
fn is_short_decimal(text: &str) -> bool {
    const EXACT_DIGITS: usize = 15;
    text.len() <= EXACT_DIGITS
        && text.contains('.')
        && !text.starts_with('+')
        && text
            .parse::<f64>()
            .is_ok_and(|number| (0.001..1e6).contains(&number.abs()) && number.to_string() == text)
}

/// Returns true for a date, perhaps with a time.
fn is_date(text: &str) -> bool {
    let day = text.split([' ', 't', 'T']).next().unwrap_or_default();
    let parts: Vec<_> = day.split('-').collect();
    parts.len() == 3
        && parts[0].len() == 4
        && parts.iter().all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit()))
}
