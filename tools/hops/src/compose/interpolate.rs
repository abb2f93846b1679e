//! Placeholders: `${X}` and `${X:-default}` are replaced when the file is read, `{{.Task.Slot}}` when a task starts.

use std::collections::BTreeMap;

use anyhow::{Context as _, anyhow, bail};

use crate::failure::Result;

/// Replaces variables as `docker stack` does: `$X`, `${X}`, `${X-unset}`, `${X:-unset or empty}`, `${X?why}`, `${X:?why}`,
/// and `$$` for a dollar sign.
///
/// # Errors
/// A variable is not set and has no default, or its syntax is wrong, or Docker reads it in a way that nobody expects.
pub(super) fn interpolate(text: &str, variables: &BTreeMap<String, String>) -> Result<String> {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(inner) = after.strip_prefix('{') {
            let (inner, after) =
                inner.split_once('}').with_context(|| format!("`${{{inner}` is not closed by a brace"))?;
            out.push_str(&value_of(inner, variables)?);
            rest = after;
        } else {
            let (name, after) = after.split_at(name_end(after));
            if name.is_empty() {
                let next: String = after.chars().take(1).collect();
                bail!("`${next}` is not a variable; a dollar sign is written $$");
            }
            // Docker takes the rest of the text for a default or a message.
            if OPERATORS.iter().any(|operator| after.starts_with(operator)) {
                bail!("`${name}{after}`: write ${{{name}}}, since Docker takes what follows for a default");
            }
            out.push_str(&value_of(name, variables)?);
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Operators in the order in which Docker looks for them.
const OPERATORS: [&str; 4] = [":-", "-", ":?", "?"];

/// Returns the length of the name at the beginning of a text.
fn name_end(text: &str) -> usize {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len())
}

/// Returns the value of a variable with its operator, as in `X:-default`.
fn value_of(inner: &str, variables: &BTreeMap<String, String>) -> Result<String> {
    let (name, rest) = inner.split_at(name_end(inner));
    if name.is_empty() {
        bail!("`${{{inner}}}` is not a variable; a dollar sign is written $$");
    }
    let value = variables.get(name);
    let nonempty = value.filter(|value| !value.is_empty());
    if rest.is_empty() {
        return value.cloned().ok_or_else(|| {
            anyhow!(
                "the variable {name} is not set: `export {name}=...`, or give it a default, ${{{name}:-...}}"
            )
        });
    }
    let Some(operator) = OPERATORS.into_iter().find(|operator| rest.starts_with(operator)) else {
        bail!(
            "`${{{inner}}}`: only ${{X}}, ${{X:-default}}, ${{X-default}}, ${{X:?why}} and ${{X?why}} are supported"
        )
    };
    let first = OPERATORS.into_iter().find(|other| inner.contains(other));
    if let Some(other) = first.filter(|other| inner.find(other) != Some(name.len())) {
        bail!("`${{{inner}}}`: Docker splits this at `{other}`: write it without `{other}`")
    }
    let argument = &rest[operator.len()..];
    if argument.contains('$') {
        bail!("`${{{inner}}}`: a default cannot contain a variable: Docker does not replace it");
    }
    if argument.contains('{') {
        bail!("`${{{inner}}}`: a default cannot contain a brace: Docker ends it at the first `}}`");
    }
    let found = if operator.starts_with(':') { nonempty } else { value };
    match found {
        Some(value) => Ok(value.clone()),
        None if operator.ends_with('-') => Ok(argument.to_owned()),
        None => Err(anyhow!("the variable {name} is required: {argument}")),
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
            ("${NONE:-}", Ok("")),
            ("${X:?why}${X?why}${EMPTY?why}", Ok("xx")),
            ("a$$b", Ok("a$b")),
            ("{{.Task.Slot}}", Ok("{{.Task.Slot}}")),
            ("${NONE}", Err("NONE is not set")),
            ("${NONE:?it is the tag}", Err("it is the tag")),
            ("${NONE?it is the tag}", Err("it is the tag")),
            ("${EMPTY:?it is the tag}", Err("it is the tag")),
            ("${NONE:-${X}}", Err("cannot contain a variable")),
            ("${NONE:-{}}", Err("cannot contain a brace")),
            ("${NONE-a:-b}", Err("splits this at `:-`")),
            ("${NONE:?a b-c}", Err("splits this at `-`")),
            ("$X-y", Err("write ${X}")),
            ("${X", Err("not closed")),
            ("$", Err("written $$")),
            ("${1}", Err("written $$")),
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
