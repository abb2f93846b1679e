//! YAML as `docker stack` reads it: merges, types of plain values, variables.
//!
//! Docker reads YAML by the rules of version 1.1 for numbers and of 1.2 for `yes` and `no`. A number that it would write
//! in another way, such as `017` or `1.10`, is refused where a text is expected.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{anyhow, bail};
use saphyr::{MarkedYaml, ScalarStyle, ScanError, Tag, YamlData, YamlLoader};
use saphyr_parser::{Event, Parser, SpannedEventReceiver as _};

use super::{
    FILE,
    interpolate::interpolate,
    node::{Data, Node, error_at},
    plain::{Plain, plain},
    raw::{Nesting, check_characters},
};
use crate::failure::Result;

/// Reads the file's only document.
pub(super) fn load(text: &str, variables: &BTreeMap<String, String>) -> Result<Node> {
    check_characters(text)?;
    let mut loader = YamlLoader::<MarkedYaml<'_>>::default();
    loader.early_parse(false);
    let not_yaml =
        |error: &ScanError| anyhow!("{FILE}:{}: not YAML: {}", error.marker().line(), error.info());
    let (mut nesting, mut aliases) = (Nesting::default(), BTreeSet::new());
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| not_yaml(&error))?;
        nesting.add(&event, span.start.line())?;
        aliases.extend(matches!(event, Event::Alias(_)).then(|| span.start.index()));
        loader.on_event(event, span);
    }
    loader.error().map_or(Ok(()), |error| Err(not_yaml(error)))?;
    match &loader.into_documents()[..] {
        [yaml] => Reader { variables, aliases }.node(yaml, String::new()),
        [] => Err(anyhow!("{FILE}:1: one document is expected, and there is none")),
        [_, second, ..] => {
            let line = second.span.start.line();
            Err(anyhow!("{FILE}:{line}: one document is expected, and a second one begins here"))
        }
    }
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

struct Reader<'a> {
    variables: &'a BTreeMap<String, String>,
    /// Positions of the aliases, each of which the loader has replaced by a copy of its value.
    aliases: BTreeSet<usize>,
}

impl Reader<'_> {
    fn node(&self, yaml: &MarkedYaml<'_>, path: String) -> Result<Node> {
        let line = yaml.span.start.line();
        let data = match &yaml.data {
            YamlData::Representation(text, style, tag) => self
                .scalar(text, *style, tag.as_deref())
                .map_err(|error| error_at(line, &path, &error.to_string()))?,
            YamlData::Sequence(list) => {
                let items = list.iter().enumerate();
                let items = items.map(|(n, yaml)| self.node(yaml, joined(&path, &n.to_string())));
                Data::List(items.collect::<Result<_>>()?)
            }
            YamlData::Mapping(_) => Data::Map(self.entries(yaml, &path)?),
            YamlData::Tagged(tag, _) => return Err(error_at(line, &path, &unsupported(tag))),
            _ => return Err(error_at(line, &path, "not YAML: this is no value")),
        };
        Ok(Node { line, path, data })
    }

    fn scalar(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Data> {
        let is_text = match tag {
            Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => true,
            Some(tag) => return Err(anyhow!(unsupported(tag))),
            None => style != ScalarStyle::Plain,
        };
        let of_plain = if is_text { Plain::Text } else { plain(text) };
        Ok(match of_plain {
            Plain::Null => Data::Null,
            Plain::Flag(flag) => Data::Flag(flag),
            Plain::Integer(number) => Data::Integer(number),
            Plain::Decimal => Data::Decimal(text.to_owned()),
            Plain::OddNumber => Data::OddNumber(text.to_owned()),
            Plain::NoValue => {
                let problem = format!(
                    "YAML reads `{text}` as a number or a date that is written differently: put it into quotes"
                );
                return Err(anyhow!(problem));
            }
            Plain::Text => {
                let replaced = interpolate(text, self.variables)?;
                if replaced.contains('\0') {
                    bail!("no value of a process can contain a NUL");
                }
                Data::Text { is_replaced: replaced != text, text: replaced }
            }
        })
    }

    /// Reads a mapping. Its own entries win over merged ones, and an earlier merge wins over a later one.
    fn entries(&self, yaml: &MarkedYaml<'_>, path: &str) -> Result<Vec<(String, Node)>> {
        let YamlData::Mapping(map) = &yaml.data else {
            return Err(error_at(yaml.span.start.line(), path, "keys with values are expected here"));
        };
        let (mut entries, mut merged) = (BTreeMap::new(), vec![]);
        let mut add = |key: String, node: Node| {
            let place = entries.len();
            match entries.contains_key(&key) {
                true => Err(node),
                false => {
                    entries.insert(key, (place, node));
                    Ok(())
                }
            }
        };
        for (key, value) in map {
            let line = key.span.start.line();
            match &key.data {
                YamlData::Representation(text, ScalarStyle::Plain, None) if text == "<<" => {
                    merged.push(value);
                }
                YamlData::Representation(text, style, None)
                    if *style != ScalarStyle::Plain || matches!(plain(text), Plain::Text) =>
                {
                    let node = self.node(value, joined(path, text))?;
                    add(text.to_string(), node)
                        .map_err(|_| error_at(line, path, &format!("the key `{text}` is a duplicate")))?;
                }
                _ => return Err(error_at(line, path, "a key is a text: put it into quotes")),
            }
        }
        for value in merged {
            let place = joined(path, "<<");
            let list = match &value.data {
                YamlData::Mapping(_) => std::slice::from_ref(value),
                YamlData::Sequence(list) if !self.aliases.contains(&value.span.start.index()) => &list[..],
                _ => {
                    let problem = "a mapping or a list of mappings is expected here";
                    return Err(error_at(value.span.start.line(), &place, problem));
                }
            };
            for (n, source) in list.iter().enumerate() {
                if !source.data.is_mapping() {
                    let problem = "keys with values are expected here";
                    return Err(error_at(source.span.start.line(), &format!("{place}.{n}"), problem));
                }
                for (key, node) in self.entries(source, path)? {
                    // A key that is there already wins.
                    let _ = add(key, node);
                }
            }
        }
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort_by_key(|(_, (place, _))| *place);
        Ok(entries.into_iter().map(|(key, (_, node))| (key, node)).collect())
    }
}

fn unsupported(tag: &Tag) -> String {
    format!("the tag `{tag}` is not supported")
}
