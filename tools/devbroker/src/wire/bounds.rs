//! Checks the size of header tables before they are decoded: the codec is recursive, and a table of a few kilobytes can have
//! more levels than the stack has room for.

/// Most levels of tables within tables.
pub(super) const MAX_TABLE_DEPTH: usize = 32;
/// Most values of a table, including those of the tables in it.
pub(super) const MAX_TABLE_VALUES: usize = 4_096;

/// Returns whether a frame has no table, or a valid one within the limits.
pub(super) fn is_within(kind: u8, payload: &[u8]) -> bool {
    let mut values = MAX_TABLE_VALUES;
    table_of(kind, payload).is_none_or(|table| check_table(table, MAX_TABLE_DEPTH, &mut values).is_some())
}

/// Returns the bytes from the table of a method or a content header on, if it has one.
fn table_of(kind: u8, payload: &[u8]) -> Option<&[u8]> {
    let short = |at: usize| Some(u16::from_be_bytes([*payload.get(at)?, *payload.get(at + 1)?]));
    let after = |mut at: usize, strings: usize, bits: usize| {
        for _ in 0..strings {
            at += 1 + usize::from(*payload.get(at)?);
        }
        payload.get(at + bits..)
    };
    if kind == 2 {
        let flags = short(12)?;
        let before = usize::from(flags & 0x8000 != 0) + usize::from(flags & 0x4000 != 0);
        return if flags & 0x2000 == 0 { None } else { after(14, before, 0) };
    }
    if kind != 1 {
        return None;
    }
    match (short(0)?, short(2)?) {
        (10, 11) => payload.get(4..),
        (10, 10) => payload.get(6..),
        (40, 10) => after(6, 2, 1),
        (40, 30 | 40) => after(6, 3, 1),
        (50, 10) => after(6, 1, 1),
        (50, 20) => after(6, 3, 1),
        (50, 50) => after(6, 3, 0),
        (60, 20) => after(6, 2, 1),
        _ => None,
    }
}

/// Measures a table without decoding it; `None` if it is invalid or exceeds a limit.
fn check_table(bytes: &[u8], levels: usize, values: &mut usize) -> Option<usize> {
    let length = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let content = bytes.get(4..4 + length)?;
    let levels = levels.checked_sub(1)?;
    let mut at = 0;
    while at < content.len() {
        at += 1 + usize::from(content[at]);
        at += check_value(content.get(at..)?, levels, values)?;
    }
    (at == content.len()).then_some(4 + length)
}

fn check_value(bytes: &[u8], levels: usize, values: &mut usize) -> Option<usize> {
    *values = values.checked_sub(1)?;
    let rest = bytes.get(1..)?;
    let prefixed = || Some(4 + u32::from_be_bytes(rest.get(..4)?.try_into().ok()?) as usize);
    let size = match *bytes.first()? {
        b't' | b'b' | b'B' => 1,
        b's' | b'U' | b'u' => 2,
        b'I' | b'i' | b'f' => 4,
        b'L' | b'l' | b'd' | b'T' => 8,
        b'D' => 5,
        b'V' => 0,
        b'S' | b'x' => prefixed()?,
        b'F' => check_table(rest, levels, values)?,
        b'A' => {
            let size = prefixed()?;
            let content = rest.get(4..size)?;
            let levels = levels.checked_sub(1)?;
            let mut at = 0;
            while at < content.len() {
                at += check_value(&content[at..], levels, values)?;
            }
            size
        }
        _ => return None,
    };
    (rest.len() >= size).then_some(1 + size)
}
