//! `${X}`, `${X:-default}` and `{{.Task.Slot}}`: what is filled in when the file is read, and what when a task starts.

use std::collections::BTreeMap;

/// Replaces variables, as Docker does: `$X`, `${X}`, `${X-unset}`, `${X:-unset or empty}`, `${X:?why}`, and `$$`
/// for a dollar sign.
///
/// # Errors
/// A variable that is not set and has no default, or what is no variable.
pub(crate) fn interpolate(text: &str, variables: &BTreeMap<String, String>) -> Result<String, String> {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(inner) = after.strip_prefix('{') {
            let end = closing(inner).ok_or_else(|| format!("`${{{inner}` is not closed by a brace"))?;
            out.push_str(&braced(&inner[..end], variables)?);
            rest = &inner[end + 1..];
        } else {
            let end = name_end(after);
            out.push_str(&braced(&after[..end], variables)?);
            rest = &after[end..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Where the brace closes; a default may have variables of its own.
fn closing(inner: &str) -> Option<usize> {
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

fn braced(inner: &str, variables: &BTreeMap<String, String>) -> Result<String, String> {
    let (name, rest) = inner.split_at(name_end(inner));
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("`${{{inner}}}` is no variable; a dollar sign is written $$"));
    }
    let value = variables.get(name);
    let filled = value.filter(|value| !value.is_empty());
    if let Some(default) = rest.strip_prefix(":-") {
        filled.map_or_else(|| interpolate(default, variables), |value| Ok(value.clone()))
    } else if let Some(default) = rest.strip_prefix('-') {
        value.map_or_else(|| interpolate(default, variables), |value| Ok(value.clone()))
    } else if let Some(why) = rest.strip_prefix(":?") {
        filled.cloned().ok_or_else(|| format!("the variable {name} is needed: {why}"))
    } else if rest.is_empty() {
        value.cloned().ok_or_else(|| {
            format!(
                "the variable {name} is not set: `export {name}=...`, or give it a default, ${{{name}:-...}}"
            )
        })
    } else {
        Err(format!("`${{{inner}}}`: only ${{X}}, ${{X:-default}}, ${{X-default}} and ${{X:?why}} are known"))
    }
}

/// Fills in a task's own values: `{{.Task.Slot}}`, `{{.Task.Name}}`, `{{.Service.Name}}` and `{{.Node.Hostname}}`.
///
/// # Errors
/// A placeholder that is none of these.
pub(crate) fn for_task(text: &str, service: &str, slot: u32) -> Result<String, String> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) =
            after.split_once("}}").ok_or_else(|| format!("`{text}`: a {{{{ without its }}}}"))?;
        out.push_str(before);
        match name.trim() {
            ".Task.Slot" => out.push_str(&slot.to_string()),
            ".Task.Name" => out.push_str(&format!("{service}.{slot}")),
            ".Service.Name" => out.push_str(service),
            ".Node.Hostname" => out.push_str("localhost"),
            other => {
                return Err(format!(
                    "`{{{{{other}}}}}` is not known here: .Task.Slot, .Task.Name, .Service.Name and \
                     .Node.Hostname are"
                ));
            }
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
            ("${X:+y}", Err("are known")),
        ] {
            match (interpolate(text, &variables), expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{text}"),
                (Err(got), Err(expected)) => assert!(got.contains(expected), "{text}: {got}"),
                (got, expected) => panic!("{text}: {got:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn a_tasks_own_values_are_filled_in_and_others_are_refused() {
        let filled = |text| for_task(text, "vipservice", 2);
        assert_eq!(filled("vipservice.{{.Task.Slot}}").unwrap(), "vipservice.2");
        assert_eq!(filled("{{ .Service.Name }}/{{.Task.Name}}").unwrap(), "vipservice/vipservice.2");
        assert!(filled("{{.Task.ID}}").unwrap_err().contains(".Task.Slot"));
        assert!(filled("{{.Task.Slot").is_err());
    }
}
