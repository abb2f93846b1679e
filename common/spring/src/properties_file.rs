//! From the text of a `.properties` file to its documents, as Spring Boot reads it.
//!
//! Documents are separated by `#---` or `!---`; `key[]=a,b` is a list. All values are texts.

use crate::{ParseError, Properties, Scalar, count};

/// Returns the documents of a file in ISO-8859-1, without those that have no key.
///
/// # Errors
/// A `\u` escape without four hexadecimal digits.
pub fn documents(bytes: &[u8]) -> Result<Vec<Properties>, ParseError> {
    let text: String = bytes.iter().copied().map(char::from).collect();
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let (mut documents, mut open) = (vec![], Properties::new());
    let mut last_comment = None;
    let mut lines = text.split('\n').enumerate();
    while let Some((n, line)) = lines.next() {
        let content = line.trim_start_matches(BLANKS);
        let comment = content.chars().next().filter(|c| "#!".contains(*c));
        if comment.is_some() {
            let is_separator = line.get(1..).is_some_and(|rest| rest.trim_end_matches(BLANKS) == "---");
            if is_separator && last_comment != comment {
                end(&mut documents, std::mem::take(&mut open), n + 1)?;
            } else {
                // A comment right after a separator cancels it.
                if open.is_empty() {
                    open = documents.pop().unwrap_or_default();
                }
                last_comment = comment;
            }
            continue;
        }
        last_comment = None;
        let mut logical = content.to_owned();
        while logical.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1 {
            logical.pop();
            let Some((_, next)) = lines.next() else { break };
            logical.push_str(next.trim_start_matches(BLANKS));
        }
        entry(&logical, &mut open).map_err(|reason| ParseError { line: n + 1, reason })?;
    }
    end(&mut documents, open, text.matches('\n').count() + 1)?;
    Ok(documents)
}

/// Adds a document that ends on this line to those of the file, unless it has no key.
fn end(documents: &mut Vec<Properties>, ended: Properties, line: usize) -> Result<(), ParseError> {
    if ended.is_empty() {
        return Ok(());
    }
    count::add(documents, ended).map_err(|reason| ParseError { line, reason })
}

const BLANKS: [char; 3] = [' ', '\t', '\u{c}'];

fn entry(line: &str, document: &mut Properties) -> Result<(), String> {
    let end = unescaped(line, |c| "=:".contains(c) || BLANKS.contains(&c)).unwrap_or(line.len());
    let (key, rest) = line.split_at(end);
    let rest = rest.trim_start_matches(BLANKS);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start_matches(BLANKS);
    let key = plain(key)?;
    if let Some(list) = key.strip_suffix("[]") {
        let mut rest = Some(value);
        for n in 0.. {
            let Some(text) = rest else { break };
            let end = unescaped(text, |c| c == ',');
            let (item, next) = end.map_or((text, None), |end| (&text[..end], Some(&text[end + 1..])));
            let item = plain(item.trim_start_matches(BLANKS))?;
            document.insert(format!("{list}[{n}]"), Scalar::Text(item));
            rest = next;
        }
    } else if !key.is_empty() {
        document.insert(key, Scalar::Text(plain(value)?));
    }
    Ok(())
}

/// Finds the first such character that has no backslash before it.
fn unescaped(text: &str, wanted: impl Fn(char) -> bool) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let found = !escaped && wanted(c);
        escaped = c == '\\' && !escaped;
        found.then_some(at)
    })
}

/// Resolves the escapes of a text.
fn plain(text: &str) -> Result<String, String> {
    if !text.contains('\\') {
        return Ok(text.to_owned());
    }
    // Two escapes may stand for one character.
    let mut units = vec![];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let c = match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some('u') => {
                    let digits: String = chars.by_ref().take(4).collect();
                    let unit = u16::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4);
                    units.push(unit.ok_or_else(|| format!("`\\u{digits}` is not a character"))?);
                    continue;
                }
                Some(other) => other,
                None => break,
            },
            (c, false) => c,
        };
        units.extend(c.encode_utf16(&mut [0; 2]).iter());
    }
    Ok(String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&[(&str, &str)]]) {
        let documents = documents(text.as_bytes()).unwrap_or_else(|e| panic!("{text:?}: {e}"));
        let read: Vec<Vec<_>> = documents
            .iter()
            .map(|document| document.iter().map(|(key, value)| (key.clone(), value.to_string())).collect())
            .collect();
        let read: Vec<Vec<_>> = read
            .iter()
            .map(|d| d.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect())
            .collect();
        assert_eq!(read, expected, "{text:?}");
    }

    #[test]
    fn keys_and_values_are_split_at_the_first_of_three_marks() {
        for text in ["k=v", "k:v", "k v", "  k = v", "k\t:\tv", "k=v\r\n", "k\\\n  =v", "k=\\\n   v"] {
            check(text, &[&[("k", "v")]]);
        }
        check("k\nl=\nm=a=b:c \n", &[&[("k", ""), ("l", ""), ("m", "a=b:c ")]]);
        check("k=1\nk=2", &[&[("k", "2")]]);
        check("\n# c\n ! c\n", &[]);
    }

    #[test]
    fn escapes_are_resolved() {
        check(r"a\ b\==c\\d", &[&[("a b=", r"c\d")]]);
        check(r"k=\u00e5\ud83d\ude00\t\n\x", &[&[("k", "\u{e5}\u{1f600}\t\nx")]]);
        assert_eq!(documents(b"k=\xe5").unwrap()[0]["k"], Scalar::text("\u{e5}"));
        assert_eq!(documents(b"a=b\nk=\\u12x4").unwrap_err().line, 2);
    }

    #[test]
    fn lists_may_be_written_in_one_line() {
        check(r"l[]=a, b\,c,", &[&[("l[0]", "a"), ("l[1]", "b,c"), ("l[2]", "")]]);
    }

    #[test]
    fn documents_are_separated_and_a_comment_beside_the_separator_takes_it_back() {
        check("a=1\n#---\nb=2", &[&[("a", "1")], &[("b", "2")]]);
        check("a=1\n!---  \nb=2", &[&[("a", "1")], &[("b", "2")]]);
        check("#---\na=1\n#---\n#---\nb=2\n#---", &[&[("a", "1")], &[("b", "2")]]);
        check("a=1\n #---\nb=2", &[&[("a", "1"), ("b", "2")]]);
        check("a=1\n# c\n#---\nb=2", &[&[("a", "1"), ("b", "2")]]);
        check("a=1\n#---\n# c\nb=2", &[&[("a", "1"), ("b", "2")]]);
    }
}
