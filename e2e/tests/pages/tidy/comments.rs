//! Doc comments say what a thing does or is, with a verb or a noun first.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
};

use e2e::repository::{files, read};

/// Of a hundred doc comments at most so many begin with one of [`QUESTIONS`].
const LIMIT: f64 = 4.0;
const QUESTIONS: [&str; 4] = ["What", "How", "Whether", "Who"];

/// The first line of every doc comment of a file.
fn doc_comments(text: &str) -> Vec<&str> {
    let mark = |line: &str| {
        let is_doc = |mark: &&&str| line.starts_with(**mark) && !line.starts_with("////");
        ["///", "//!"].iter().find(is_doc).copied()
    };
    let lines: Vec<_> = text.lines().map(str::trim_start).collect();
    let before = std::iter::once("").chain(lines.iter().copied());
    let firsts =
        before.zip(&lines).filter(|(before, line)| mark(line).is_some() && mark(before) != mark(line));
    firsts.map(|(_, line)| line[3..].trim_start()).collect()
}

fn begins_with_a_question_word(comment: &str) -> bool {
    comment.split(|c: char| !c.is_alphanumeric()).next().is_some_and(|word| QUESTIONS.contains(&word))
}

#[test]
fn few_doc_comments_begin_with_a_question_word() {
    let (mut all, mut questions) = (0, BTreeMap::new());
    for path in files().into_iter().filter(|path| path.ends_with(".rs")) {
        let text = read(&path);
        let comments = doc_comments(&text);
        let found = comments.iter().filter(|comment| begins_with_a_question_word(comment)).count();
        all += comments.len();
        if found > 0 {
            questions.insert(path, found);
        }
    }
    let sum: usize = questions.values().sum();
    let mut worst: Vec<_> = questions.into_iter().collect();
    worst.sort_by_key(|(_, found)| usize::MAX - found);
    let worst: Vec<_> = worst.iter().take(20).map(|(path, found)| format!("{found:>3} {path}")).collect();
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let share = 100.0 * sum as f64 / all as f64;
    let says = format!("{sum} of {all} doc comments, {share:.1} %, begin with one of {QUESTIONS:?}");
    let _ = writeln!(io::stdout().lock(), "\n{says}");
    assert!(share <= LIMIT, "{says}, at most {LIMIT} % may; most of them are in\n{}", worst.join("\n"));
}

#[test]
fn a_doc_comment_is_a_block_of_lines() {
    let text =
        "//! One\n//! two.\n/// Three\n/// four.\nfn f() {}\n    /// Five.\n//// six\n// seven\n/// Eight";
    assert_eq!(doc_comments(text), ["One", "Three", "Five.", "Eight"]);
}
