//! `${key}` and `${key:default}` in values, as Spring's clients resolve them: nested, recursive, `\${` for a
//! plain `${`.
//!
//! Pure, and bounded: what a few lines multiply into more than [`STEPS`] look-ups is refused.

/// How many placeholders one value may lead to.
const STEPS: usize = 1000;
/// How many may stand within each other.
const DEPTH: usize = 32;
/// The longest value, in bytes.
const LENGTH: usize = 64 * 1024;

/// Resolves a value.
///
/// # Errors
/// The placeholder that stands for nothing, or leads to itself; never a value.
pub(super) fn resolve(text: &str, look_up: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    Resolver { look_up, steps: STEPS, open: vec![] }.resolve(text)
}

struct Resolver<'a> {
    look_up: &'a dyn Fn(&str) -> Option<String>,
    steps: usize,
    /// The keys whose values are being resolved.
    open: Vec<String>,
}

impl Resolver<'_> {
    fn resolve(&mut self, text: &str) -> Result<String, String> {
        let (mut done, mut rest) = (String::new(), text);
        while let Some(at) = rest.find("${") {
            let (before, from) = rest.split_at(at);
            if let Some(before) = before.strip_suffix('\\') {
                done.push_str(before);
                done.push_str("${");
                rest = &from[2..];
                continue;
            }
            // What is not closed is no placeholder.
            let Some(end) = closing(&from[2..]) else { break };
            done.push_str(before);
            let value = self.placeholder(&from[2..2 + end])?;
            done.push_str(&value);
            rest = &from[end + 3..];
            if done.len() > LENGTH {
                return Err(format!("its placeholders make it longer than {LENGTH} bytes"));
            }
        }
        done.push_str(rest);
        Ok(done)
    }

    fn placeholder(&mut self, inside: &str) -> Result<String, String> {
        self.steps = self.steps.checked_sub(1).ok_or("its placeholders lead to too many others")?;
        if self.open.len() >= DEPTH {
            return Err(format!("its placeholders are nested deeper than {DEPTH}"));
        }
        let (key, default) = split_default(inside);
        self.open.push(String::new());
        let key = self.resolve(key)?;
        self.open.pop();
        if self.open.contains(&key) {
            return Err(format!("the placeholder ${{{key}}} leads to itself"));
        }
        let text = match ((self.look_up)(&key), default) {
            (Some(value), _) => value,
            (None, Some(default)) => default.to_owned(),
            (None, None) => {
                return Err(format!(
                    "the placeholder ${{{key}}} stands for nothing: set {key}, or write ${{{key}:DEFAULT}}"
                ));
            }
        };
        self.open.push(key);
        let value = self.resolve(&text);
        self.open.pop();
        value
    }
}

/// Where the brace is that closes what was opened before `text`.
fn closing(text: &str) -> Option<usize> {
    let mut open = 1;
    text.bytes().position(|byte| {
        open += i32::from(byte == b'{') - i32::from(byte == b'}');
        open == 0
    })
}

/// At the first colon that is not inside of another placeholder.
fn split_default(inside: &str) -> (&str, Option<&str>) {
    let mut open = 0;
    let colon = inside.bytes().position(|byte| {
        open += i32::from(byte == b'{') - i32::from(byte == b'}');
        open == 0 && byte == b':'
    });
    colon.map_or((inside, None), |at| (&inside[..at], Some(&inside[at + 1..])))
}

#[cfg(test)]
mod tests;
