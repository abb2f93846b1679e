//! No module is part of a cycle.
//!
//! A module may use what lies below it, and what lies below it may use its types: the two are one subject.
//! All other uses count, also through a name that a third module re-exports.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::source::{Source, Token, shipped};

/// A module's or an item's place in its crate; empty for the crate itself.
type Place = Vec<String>;

#[derive(Default)]
struct Module {
    /// Places in its own crate that it names.
    uses: BTreeSet<Place>,
    /// Names that it re-exports, and what they stand for.
    exports: BTreeMap<String, Place>,
}

type Modules = BTreeMap<Place, Module>;

/// The modules of the crate in a folder.
fn modules(sources: &[Source], folder: &str) -> Modules {
    let place = |source: &Source| {
        let path = source.path.strip_prefix(folder)?.strip_prefix("/src/")?.strip_suffix(".rs")?;
        let is_program = path == "main" || path.starts_with("bin/");
        (!is_program).then(|| path.split('/').filter(|part| *part != "lib").map(str::to_owned).collect())
    };
    let found: BTreeMap<Place, &Source> =
        sources.iter().filter_map(|source| Some((place(source)?, source))).collect();
    let places: BTreeSet<_> = found.keys().cloned().collect();
    found
        .into_iter()
        .map(|(place, source)| (place.clone(), module(&source.tokens, &place, &places)))
        .collect()
}

/// Reads one module.
fn module(tokens: &[Token], place: &Place, places: &BTreeSet<Place>) -> Module {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let (mut module, mut at) = (Module::default(), 0);
    while at < tokens.len() {
        if text(at) == "use" && text(at + 1) != "<" {
            let end = (at..tokens.len()).find(|end| text(*end) == ";").unwrap_or(tokens.len());
            let is_public = at > 0 && (text(at - 1) == "pub" || text(at - 1) == ")");
            for (path, name) in use_tree(&tokens[at + 1..end]) {
                let Some(used) = absolute(&path, place, places) else { continue };
                if is_public {
                    module.exports.insert(name, used.clone());
                }
                module.uses.insert(used);
            }
            at = end;
        } else if is_word(text(at)) && text(at + 1) == "::" && (at == 0 || text(at - 1) != "::") {
            let mut path = vec![text(at).to_owned()];
            while text(at + 1) == "::" && is_word(text(at + 2)) {
                at += 2;
                path.push(text(at).to_owned());
            }
            module.uses.extend(absolute(&path, place, places));
        }
        at += 1;
    }
    module
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c == '_' || c.is_alphabetic())
}

/// The paths of a `use`, each with the name that it has from then on.
fn use_tree(tokens: &[Token]) -> Vec<(Place, String)> {
    let open = tokens.iter().position(|token| token.text == "{");
    let words = |tokens: &[Token]| -> Place {
        tokens.iter().map(|token| token.text.clone()).filter(|text| is_word(text)).collect()
    };
    let Some(open) = open else {
        let (path, alias) = match tokens.iter().position(|token| token.text == "as") {
            Some(at) => (words(&tokens[..at]), tokens.last().map(|token| token.text.clone())),
            None => (words(tokens), None),
        };
        let name = alias.or_else(|| path.last().cloned());
        return name.map(|name| (path, name)).into_iter().collect();
    };
    let prefix = words(&tokens[..open]);
    let (mut found, mut depth, mut start) = (vec![], 0, open + 1);
    for (at, token) in tokens.iter().enumerate().skip(open + 1) {
        match token.text.as_str() {
            "{" => depth += 1,
            "," | "}" if depth == 0 => {
                found.extend(use_tree(&tokens[start..at]));
                start = at + 1;
            }
            "}" => depth -= 1,
            _ => {}
        }
    }
    let with_prefix = |(path, name): (Place, String)| match path.as_slice() {
        [itself] if itself == "self" => (prefix.clone(), prefix.last().cloned().unwrap_or_default()),
        _ => ([prefix.clone(), path].concat(), name),
    };
    found.into_iter().map(with_prefix).collect()
}

/// A path from the crate's root, if it leads into the crate.
fn absolute(path: &[String], place: &Place, places: &BTreeSet<Place>) -> Option<Place> {
    let supers = path.iter().take_while(|word| *word == "super").count();
    let (base, rest) = match path[0].as_str() {
        "crate" => (&[][..], &path[1..]),
        "self" => (&place[..], &path[1..]),
        "super" => (&place[..place.len().saturating_sub(supers)], &path[supers..]),
        _ => (&place[..], path),
    };
    let absolute = [base, rest].concat();
    let is_ours = ["crate", "self", "super"].contains(&path[0].as_str());
    (is_ours || places.contains(&absolute[..=place.len()])).then_some(absolute)
}

/// The module in which a place is, past all re-exports.
fn home(modules: &Modules, place: &[String], steps: usize) -> Place {
    let length = (0..=place.len()).rev().find(|length| modules.contains_key(&place[..*length])).unwrap_or(0);
    let (module, rest) = place.split_at(length);
    let export = rest.first().and_then(|name| modules.get(module)?.exports.get(name));
    match export {
        Some(export) if steps < 8 => home(modules, &[export.as_slice(), &rest[1..]].concat(), steps + 1),
        _ => module.to_owned(),
    }
}

/// Every shortest cycle, as the modules on its way, the first of them again at its end.
fn cycles(modules: &Modules) -> BTreeSet<Vec<Place>> {
    let used = |(place, module): (&Place, &Module)| {
        let homes = module.uses.iter().map(|used| home(modules, used, 0));
        (place.clone(), homes.filter(|home| !home.starts_with(place)).collect::<BTreeSet<_>>())
    };
    let used: BTreeMap<_, _> = modules.iter().map(used).collect();
    let mut cycles = BTreeSet::new();
    for start in modules.keys() {
        let (mut from, mut waiting) = (BTreeMap::new(), VecDeque::from([start]));
        while let Some(place) = waiting.pop_front() {
            for next in &used[place] {
                if from.contains_key(next) {
                    continue;
                }
                from.insert(next, place);
                waiting.push_back(next);
            }
        }
        if from.contains_key(start) {
            let mut way = vec![start.clone()];
            while way.len() == 1 || way.last() != Some(start) {
                way.push(from[&way[way.len() - 1]].clone());
            }
            way.pop();
            way.reverse();
            // The same cycle begins with the same module wherever it was found.
            let first = (0..way.len()).min_by_key(|at| &way[*at]).unwrap();
            way.rotate_left(first);
            way.push(way[0].clone());
            cycles.insert(way);
        }
    }
    cycles
}

fn shown(cycle: &[Place]) -> String {
    let names = cycle.iter().map(|place| if place.is_empty() { "lib".to_owned() } else { place.join("::") });
    names.collect::<Vec<_>>().join(" -> ")
}

#[test]
fn no_module_is_part_of_a_cycle() {
    let sources = shipped();
    let crates = sources.iter().filter_map(|source| source.path.strip_suffix("/src/lib.rs"));
    let (mut found, mut count) = (vec![], 0);
    for folder in crates {
        let modules = modules(&sources, folder);
        count += modules.len();
        found.extend(cycles(&modules).iter().map(|cycle| format!("{folder}: {}", shown(cycle))));
    }
    assert!(count > 100, "{count} modules");
    assert!(found.is_empty(), "modules use each other:\n{}", found.join("\n"));
}

#[test]
fn a_cycle_is_found_through_re_exports_and_a_parent_with_its_children_is_none() {
    let check = |files: &[(&str, &str)], expected: &[&str]| {
        let source = |(name, text): &(&str, &str)| Source::of(format!("x/src/{name}.rs"), (*text).to_owned());
        let sources: Vec<_> = files.iter().map(source).collect();
        let found: Vec<_> = cycles(&modules(&sources, "x")).iter().map(|cycle| shown(cycle)).collect();
        assert_eq!(found, expected);
    };
    check(&[("lib", "pub mod a; pub use a::A;"), ("a", "use crate::B; struct A;")], &[]);
    check(
        &[("lib", "mod a; mod b;"), ("a", "fn a() { crate::b::b() }"), ("b", "use super::a;")],
        &["a -> b -> a"],
    );
    let exports = ("lib", "mod a; mod b; pub use self::{a::A, b::{B as C, *}};");
    check(&[exports, ("a", "use crate::C;"), ("b", "use crate::{x, A};")], &["a -> b -> a"]);
    check(&[exports, ("a", "use crate::C;"), ("b", "#[cfg(test)]\nmod tests { use crate::A; }")], &[]);
    check(
        &[
            ("lib", ""),
            ("a", "use self::b::B;"),
            ("a/b", "use super::{A, c};"),
            ("a/c", "fn f(_: super::b::B) {}"),
        ],
        &["a::b -> a::c -> a::b"],
    );
}
