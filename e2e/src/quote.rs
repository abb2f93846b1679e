//! Code that a page shows stands in the file that the page names: [`faults`].
//!
//! Above a block of code stands where it is from: `<!-- code: vipservice/src/consumer.rs#on_message -->`, a file by its path from
//! the root and, after `#`, an item of it: a function, a type, a constant, a key of a YAML file, or the words that its first line
//! begins with, as in `#impl Kind`. The block's lines have to stand in it, in this order and without others between them; a line
//! `// ...` or `# ...` stands for any that are left out. How far lines are indented does not count.
//! A block that says `<!-- file: ... -->` instead is what the reader writes, and is not looked at here.

#[cfg(test)]
mod tests;

use crate::repository;

/// Languages whose blocks have to say where they are from.
const LANGUAGES: [&str; 3] = ["rust", "yaml", "toml"];
const GAPS: [&str; 2] = ["// ...", "# ..."];
/// Keywords that declare an item.
const KEYWORDS: [&str; 9] =
    ["fn", "struct", "enum", "trait", "const", "static", "type", "mod", "macro_rules!"];
/// Words that may stand before such a keyword.
const QUALIFIERS: [&str; 5] = ["pub", "pub(crate)", "pub(super)", "async", "default"];

/// Returns the quotations of a page that differ from the code; the page is named by its path from the root.
pub fn faults(path: &str) -> Vec<String> {
    let page = repository::read(path);
    let wrong = |quote: Quote| {
        quote.fault(|path| repository::read(path)).map(|fault| format!("{path}:{}: {fault}", quote.line))
    };
    quotes(&page).into_iter().filter_map(wrong).collect()
}

/// A block of code, and where its page says that it is from.
#[derive(Debug, PartialEq)]
struct Quote<'a> {
    /// Where in the page.
    line: usize,
    source: Option<&'a str>,
    lines: Vec<&'a str>,
}

/// The blocks of a page that have to say where they are from.
fn quotes(page: &str) -> Vec<Quote<'_>> {
    let (mut quotes, mut before) = (vec![], "");
    let mut lines = (1..).zip(page.lines());
    while let Some((line, text)) = lines.next() {
        if let Some(language) = text.strip_prefix("```") {
            let block = lines.by_ref().map(|(_, text)| text).take_while(|text| *text != "```").collect();
            let comment = before.strip_prefix("<!-- ").and_then(|text| text.strip_suffix(" -->"));
            let source = comment.and_then(|text| text.strip_prefix("code: "));
            let is_readers = comment.is_some_and(|text| text.starts_with("file: "));
            if source.is_some() || !is_readers && LANGUAGES.contains(&language) {
                quotes.push(Quote { line, source, lines: block });
            }
        }
        if !text.is_empty() {
            before = text;
        }
    }
    quotes
}

impl Quote<'_> {
    /// Returns what is wrong with it, compared with the files that `read` reads.
    fn fault(&self, read: impl Fn(&str) -> String) -> Option<String> {
        let Some(source) = self.source else {
            return Some("code without `<!-- code: FILE#ITEM -->` above it".into());
        };
        let (path, item) = source.split_once('#').unwrap_or((source, ""));
        let file = read(path);
        let file: Vec<_> = file.lines().collect();
        let within = match item {
            "" => Some(&file[..]),
            item => find(&file, item, path.ends_with(".yml")),
        };
        let Some(mut left) = within else { return Some(format!("{path} has no {item}")) };
        let is_gap = |line: &&str| GAPS.contains(&line.trim());
        for piece in self.lines.split(is_gap).filter(|piece| !piece.is_empty()) {
            let is_here = |window: &[&str]| window.iter().zip(piece).all(|(a, b)| a.trim() == b.trim());
            let Some(found) = left.windows(piece.len()).position(is_here) else {
                return Some(format!("{source} has no\n{}", piece.join("\n")));
            };
            left = &left[found + piece.len()..];
        }
        None
    }
}

/// The lines of an item, with its comments and attributes.
fn find<'a, 'b>(file: &'a [&'b str], item: &str, is_yaml: bool) -> Option<&'a [&'b str]> {
    let first = file.iter().position(|line| is_first(line.trim_start(), item, is_yaml))?;
    let indent = indentation(file[first]);
    let rest = &file[first..];
    let length = if is_yaml {
        let deeper = |line: &&&str| line.trim().is_empty() || indentation(line) > indent;
        1 + rest[1..].iter().take_while(deeper).count()
    } else {
        // As rustfmt writes it, an item ends where a line as far left closes it.
        let ends = |line: &&str| indentation(line) == indent && (line.ends_with([';', '}']));
        1 + rest.iter().position(ends)?
    };
    let is_about = |line: &&&str| ["///", "#[", "# "].iter().any(|mark| line.trim_start().starts_with(mark));
    let about = file[..first].iter().rev().take_while(is_about).count();
    Some(&file[first - about..first + length])
}

fn is_first(line: &str, item: &str, is_yaml: bool) -> bool {
    if is_yaml {
        return line.strip_prefix(item).is_some_and(|rest| rest.starts_with(':'));
    }
    let mut words = line.split_whitespace().skip_while(|word| QUALIFIERS.contains(word));
    let is_declared = words.next().is_some_and(|word| KEYWORDS.contains(&word));
    let name = words.next().and_then(|word| word.split(|c: char| c != '_' && !c.is_alphanumeric()).next());
    is_declared && name == Some(item) || item.contains(' ') && line.starts_with(item)
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}
