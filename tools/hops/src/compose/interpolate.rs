//! Placeholders: `${X}` and `${X:-default}` are replaced when the file is read, `{{.Task.Slot}}` when a task starts.

use std::collections::BTreeMap;

use anyhow::{Context as _, anyhow, bail};

use crate::failure::Result;

/// Replaces variables as Docker does: `$X`, `${X}`, `${X-unset}`, `${X:-unset or empty}`, `${X:?why}`, and `$$`
/// for a dollar sign.
///
/// # Errors
/// A variable is not set and has no default, or its syntax is wrong.
pub(crate) fn interpolate(text: &str, variables: &BTreeMap<String, String>) -> Result<String> {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(inner) = after.strip_prefix('{') {
            let end =
                closing_brace(inner).with_context(|| format!("`${{{inner}` is not closed by a brace"))?;
            out.push_str(&value_of(&inner[..end], variables)?);
            rest = &inner[end + 1..];
        } else {
            let end = name_end(after);
            out.push_str(&value_of(&after[..end], variables)?);
            rest = &after[end..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Returns the position of the closing brace; a default may contain variables with braces of their own.
fn closing_brace(inner: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn name_end(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len())
}

/// Returns the value of a variable with its modifier, as in `X:-default`.
fn value_of(inner: &str, variables: &BTreeMap<String, String>) -> Result<String> {
    let (name, modifier) = inner.split_at(name_end(inner));
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        bail!("`${{{inner}}}` is not a variable; a dollar sign is written $$");
    }
    let value = variables.get(name);
    let nonempty = value.filter(|value| !value.is_empty());
    if let Some(default) = modifier.strip_prefix(":-") {
        nonempty.map_or_else(|| interpolate(default, variables), |value| Ok(value.clone()))
    } else if let Some(default) = modifier.strip_prefix('-') {
        value.map_or_else(|| interpolate(default, variables), |value| Ok(value.clone()))
    } else if let Some(why) = modifier.strip_prefix(":?") {
        nonempty.cloned().ok_or_else(|| anyhow!("the variable {name} is required: {why}"))
    } else if modifier.is_empty() {
        value.cloned().ok_or_else(|| {
            anyhow!(
                "the variable {name} is not set: `export {name}=...`, or give it a default, ${{{name}:-...}}"
            )
        })
    } else {
        bail!("`${{{inner}}}`: only ${{X}}, ${{X:-default}}, ${{X-default}} and ${{X:?why}} are supported")
    }
}

/// Replaces a task's own values: `{{.Task.Slot}}`, `{{.Task.Name}}`, `{{.Service.Name}}` and `{{.Node.Hostname}}`.
///
/// # Errors
/// There is another placeholder, or one that is not closed.
pub(crate) fn for_task(text: &str, service: &str, slot: u32) -> Result<String> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) =
            after.split_once("}}").with_context(|| format!("`{text}`: a {{{{ without its }}}}"))?;
        out.push_str(before);
        match name.trim() {
            ".Task.Slot" => out.push_str(&slot.to_string()),
            ".Task.Name" => out.push_str(&format!("{service}.{slot}")),
            ".Service.Name" => out.push_str(service),
            ".Node.Hostname" => out.push_str("localhost"),
            other => bail!(
                "`{{{{{other}}}}}` is not supported: use .Task.Slot, .Task.Name, .Service.Name or .Node.Hostname"
            ),
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_as_docker_does() {
        let variables = [("X", "x"), ("EMPTY", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let variables = BTreeMap::from(variables);
        for (text, expected) in [
            ("plain", Ok("plain")),
            ("${X}/$X.y", Ok("x/x.y")),
            ("${NONE:-default:1}", Ok("default:1")),
            ("${EMPTY:-full}${EMPTY-kept}", Ok("full")),
            ("${NONE-a}", Ok("a")),
            ("${NONE:-${X}}", Ok("x")),
            ("${NONE:-}", Ok("")),
            ("a$$b", Ok("a$b")),
            ("{{.Task.Slot}}", Ok("{{.Task.Slot}}")),
            ("${NONE}", Err("NONE is not set")),
            ("${NONE:?it is the tag}", Err("it is the tag")),
            ("${X", Err("not closed")),
            ("$", Err("written $$")),
            ("${X:+y}", Err("are supported")),
        ] {
            match (interpolate(text, &variables), expected) {
                (Ok(replaced), Ok(expected)) => assert_eq!(replaced, expected, "{text}"),
                (Err(error), Err(expected)) => {
                    assert!(error.to_string().contains(expected), "{text}: {error}")
                }
                (result, expected) => panic!("{text}: {result:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn a_tasks_own_values_are_replaced_and_other_placeholders_are_refused() {
        let replaced = |text| for_task(text, "vipservice", 2);
        assert_eq!(replaced("vipservice.{{.Task.Slot}}").unwrap(), "vipservice.2");
        assert_eq!(replaced("{{ .Service.Name }}/{{.Task.Name}}").unwrap(), "vipservice/vipservice.2");
        assert!(replaced("{{.Task.ID}}").unwrap_err().to_string().contains(".Task.Slot"));
        assert!(replaced("{{.Task.Slot").is_err());
    }
}
