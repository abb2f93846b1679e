//! The pictures of the crates in `docs/ARCHITECTURE.md` are those of the manifests.

use std::collections::{BTreeMap, BTreeSet};

use e2e::repository::{read, root};
use serde_json::Value;

use super::members;

const PAGE: &str = "docs/ARCHITECTURE.md";

/// Groups of crates in the picture, from the top.
const ROWS: [&str; 3] = ["services", "tools", "common"];

/// The members that ship, each by its name with its folder and the members that it depends on.
struct Crates(BTreeMap<String, (String, BTreeSet<String>)>);

impl Crates {
    fn of_the_manifests() -> Self {
        let members = members();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let folder = |member: &Value| {
            let folder = text(&member["manifest_path"]);
            let folder = folder.strip_prefix(&*root().to_string_lossy()).unwrap().trim_start_matches('/');
            folder.trim_end_matches("/Cargo.toml").to_owned()
        };
        let is_shown = |folder: &str| !["e2e", "examples"].contains(&folder);
        let dependencies = |member: &Value| -> BTreeSet<_> {
            let all = member["dependencies"].as_array().unwrap().iter();
            let ours =
                all.filter(|dependency| dependency["kind"].is_null() && dependency["path"].is_string());
            ours.map(|dependency| text(&dependency["name"])).collect()
        };
        let crates =
            members.iter().map(|member| (text(&member["name"]), (folder(member), dependencies(member))));
        Self(crates.filter(|(_, (folder, _))| is_shown(folder)).collect())
    }

    /// Tells whether one crate depends on another through a third.
    fn is_through_another(&self, from: &str, to: &str) -> bool {
        let (_, dependencies) = &self.0[from];
        dependencies.iter().any(|between| between != to && self.reaches(between, to))
    }

    fn reaches(&self, from: &str, to: &str) -> bool {
        from == to || self.0[from].1.iter().any(|next| self.reaches(next, to))
    }

    fn row(folder: &str) -> &'static str {
        let is_in = |row: &&&str| folder.strip_prefix(**row).is_some_and(|rest| rest.starts_with('/'));
        ROWS.iter().find(is_in).unwrap_or(&ROWS[0])
    }

    /// The picture, without arrows that others imply.
    fn picture(&self) -> String {
        let mut picture = "```mermaid\nflowchart TD\n".to_owned();
        for row in ROWS {
            picture += &format!("    subgraph {row}\n");
            for (name, (folder, _)) in self.0.iter().filter(|(_, (folder, _))| Self::row(folder) == row) {
                picture += &format!("        {name}[\"{folder}\"]\n");
            }
            picture += "    end\n";
        }
        for (name, (_, dependencies)) in &self.0 {
            let shown: Vec<_> = dependencies
                .iter()
                .filter(|to| !self.is_through_another(name, to))
                .map(String::as_str)
                .collect();
            if !shown.is_empty() {
                picture += &format!("    {name} --> {}\n", shown.join(" & "));
            }
        }
        picture + "```\n"
    }
}

#[test]
fn the_picture_of_the_crates_is_that_of_the_manifests() {
    let (page, picture) = (read(PAGE), Crates::of_the_manifests().picture());
    let shown = page.split_once("```mermaid\n").and_then(|(_, rest)| rest.split_once("```\n"));
    let shown = shown.map(|(shown, _)| format!("```mermaid\n{shown}```\n"));
    assert!(shown.as_ref() == Some(&picture), "the first picture of {PAGE} is to be\n{picture}");
}

#[test]
fn the_table_of_the_crates_of_common_has_what_each_depends_on_and_only_on_those_above_it() {
    let crates = Crates::of_the_manifests();
    let page = read(PAGE);
    let section = page.split_once("\n## The crates of common\n").unwrap().1.split("\n## ").next().unwrap();
    let mut above = BTreeSet::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let folder = cells[1].trim_matches('`');
        let Some((name, (_, dependencies))) = crates.0.iter().find(|(_, (place, _))| place == folder) else {
            panic!("{PAGE}: {folder} is no member");
        };
        let named = |name: &str| crates.0[name].0.rsplit('/').next().unwrap().to_owned();
        let expected: BTreeSet<_> = dependencies.iter().map(|name| named(name)).collect();
        let shown = cells[3].split(", ").filter(|name| !name.is_empty()).map(str::to_owned);
        assert_eq!(shown.collect::<BTreeSet<_>>(), expected, "{PAGE}: {folder}");
        assert!(dependencies.is_subset(&above), "{PAGE}: {folder} stands above what it depends on");
        above.insert(name.clone());
    }
    let common = crates.0.iter().filter(|(_, (folder, _))| Crates::row(folder) == "common");
    assert_eq!(above, common.map(|(name, _)| name.clone()).collect(), "{PAGE}: the crates in its table");
}
