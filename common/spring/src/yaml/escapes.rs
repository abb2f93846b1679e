//! Escapes that JSON writes and the parser refuses.

/// Writes each pair `\ud83d\ude00` of a text as one `\U0001f600`; `None` if there is no pair.
pub(super) fn joined(text: &str) -> Option<String> {
    let mut joined = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        joined.push_str(before);
        let pair = half(escape).zip(escape.get(6..).and_then(half));
        match pair.and_then(|(high, low)| char::decode_utf16([high, low]).next()?.ok()) {
            Some(c) if u32::from(c) > 0xffff => {
                joined.push_str(&format!("\\U{:08x}", u32::from(c)));
                rest = &escape[12..];
            }
            // A backslash and the character that it escapes, which may be another backslash.
            _ => {
                let length = escape.chars().take(2).map(char::len_utf8).sum();
                joined.push_str(&escape[..length]);
                rest = &escape[length..];
            }
        }
    }
    joined.push_str(rest);
    (joined.len() < text.len()).then_some(joined)
}

/// Returns the number of the escape `\uXXXX` at the beginning of a text.
fn half(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let is_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
    u16::from_str_radix(digits, 16).ok().filter(|_| is_hex)
}
