//! Random files, each with a seed that a failure names.

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::{
    PropertySource, document::properties_of, merged, profiles::ProfileDirectives, properties_file,
    request::Format, yaml::documents,
};

/// Pieces that files consist of, and pieces that break them.
const PIECES: [&str; 64] = [
    "a",
    "b.c",
    "key: ",
    "k:\n",
    "- ",
    "-\n",
    "\n",
    "\n\n",
    "  ",
    "    ",
    "\t",
    "[",
    "]",
    "{",
    "}",
    ",",
    ", ",
    ": ",
    ":",
    "?",
    "? ",
    "&a ",
    "&b ",
    "*a",
    "*b",
    "<<: *a\n",
    "<<: ",
    "!!str ",
    "!x ",
    "!!int ",
    "!",
    "|\n",
    ">-\n",
    "|2+\n",
    "'",
    "\"",
    "''",
    "\\u00e5",
    "\\x",
    "#",
    " # c\n",
    "---\n",
    "...\n",
    "--- ",
    "#---\n",
    "!---\n",
    "%YAML 1.1\n",
    "0x1F",
    "012",
    "1_0",
    "12:30:45",
    "1e3",
    ".inf",
    "~",
    "yes",
    "=",
    "\\\n",
    "[]=",
    "[0]",
    "[99]",
    "${a}",
    "\u{feff}",
    "\u{e5}",
    "\u{85}",
];

/// Any file gives an answer or an error, never a panic, and a file that is read can be answered in every format.
#[test]
fn files_that_are_anything_at_all_are_read_or_refused() {
    for seed in 0..4_000 {
        let mut rng = StdRng::seed_from_u64(seed);
        let pieces = rng.random_range(1..60);
        let mut text: String = (0..pieces).filter_map(|_| PIECES.choose(&mut rng).copied()).collect();
        if rng.random_bool(0.2) {
            text = text.repeat(rng.random_range(1..40));
        }
        let mut bytes = text.clone().into_bytes();
        if rng.random_bool(0.2) {
            let at = rng.random_range(0..bytes.len());
            bytes[at] = rng.random();
        }
        let flat =
            documents(&text).map(|all| all.into_iter().filter_map(|node| properties_of(node).ok()).collect());
        for all in [flat, properties_file::documents(&bytes)] {
            let all: Vec<_> = all.unwrap_or_default();
            let _ = all.iter().map(ProfileDirectives::of).collect::<Vec<_>>();
            let sources = all.into_iter().map(|source| PropertySource { name: String::new(), source });
            let sources: Vec<_> = sources.collect();
            for format in [Format::Properties, Format::Json, Format::Yaml] {
                if let Ok((_, text)) = merged::answer(&sources, format, false)
                    && format == Format::Yaml
                {
                    assert!(documents(&text).is_ok(), "seed {seed}: {text}");
                }
            }
        }
    }
}
