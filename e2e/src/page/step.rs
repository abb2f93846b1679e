//! A page, read: what is typed and what it prints, in order.

use std::mem;

/// One thing that the reader types and sees.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// The terminal in which it is typed, or shown, where the block names one: `console devbroker`.
    pub(super) terminal: Option<String>,
    /// The file that the reader writes with what is printed here, by its path from the root.
    pub(super) file: Option<String>,
    /// Empty where lines of the logs are shown.
    pub(super) typed: String,
    pub(super) printed: Vec<String>,
}

/// The steps of all blocks that are marked `console`, and of those below `<!-- file: PATH -->`, top to bottom.
pub(super) fn steps(page: &str) -> Vec<Step> {
    let (mut steps, mut before): (Vec<Step>, _) = (vec![], "");
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let above = if line.is_empty() { before } else { mem::replace(&mut before, line) };
        let Some(mark) = line.strip_prefix("```") else { continue };
        let block = lines.by_ref().take_while(|line| *line != "```");
        let file = above.strip_prefix("<!-- file: ").and_then(|rest| rest.strip_suffix(" -->"));
        if let Some(file) = file {
            let printed = block.map(str::to_owned).collect();
            steps.push(Step { file: Some(file.to_owned()), printed, ..Step::default() });
            continue;
        }
        let Some(terminal) = mark.strip_prefix("console") else {
            block.for_each(drop);
            continue;
        };
        let terminal = Some(terminal.trim().to_owned()).filter(|name| !name.is_empty());
        let step = |typed: &str| Step { terminal: terminal.clone(), typed: typed.into(), ..Step::default() };
        steps.push(step(""));
        for line in block {
            match (line.strip_prefix("$ ").or((line == "^C").then_some(line)), steps.last_mut()) {
                (Some(typed), _) => steps.push(step(typed)),
                (None, Some(last)) => last.printed.push(line.into()),
                (None, None) => {}
            }
        }
    }
    steps.retain(|step| !step.typed.is_empty() || !step.printed.is_empty());
    steps
}

impl Step {
    /// Tells whether the command runs until Ctrl-C: a program that is given no verb, `up` in front, logs that are followed, an
    /// example in a terminal of its own; not where its error is printed.
    pub(super) fn stays(&self) -> bool {
        let words: Vec<_> = self.typed.split_whitespace().collect();
        let has = |wanted: &[&str]| words.iter().any(|word| wanted.contains(word));
        match &words[..] {
            _ if has(&["|"]) || self.fails() => false,
            ["cargo", "run", "-p", _, arguments @ ..] => arguments.get(1..).is_none_or(has_no_verb),
            ["cargo", "run", "--bin", ..] => self.terminal.is_some(),
            ["cargo", "hops", "up", ..] => !has(&["-d", "--detach"]),
            ["cargo", "hops", "service", "logs", ..] => has(&["-f", "--follow"]),
            _ => false,
        }
    }

    /// Tells whether the command is expected to fail.
    pub(super) fn fails(&self) -> bool {
        self.printed.iter().any(|line| line.starts_with("error: "))
    }

    /// The name of its terminal, or the program that is typed: `X` in `cargo run -p X`, or `hops`.
    pub(super) fn program(&self) -> &str {
        if let Some(terminal) = &self.terminal {
            return terminal;
        }
        let mut words = self.typed.split_whitespace().skip(1);
        match words.next() {
            Some("run") => words.nth(1).unwrap_or_default(),
            _ => "hops",
        }
    }

    /// Tells whether the command only asks, about something that may take a moment.
    pub(super) fn is_question(&self) -> bool {
        let typed = self.typed.as_str();
        let asks_with_curl =
            typed.starts_with("curl ") && !typed.contains("/accounts/") && !typed.contains(" -X");
        let verbs = ["queues", "service ls", "service ps", "service logs", "status"];
        let asks_the_tool = typed.strip_prefix("cargo hops ");
        !self.stays()
            && (asks_with_curl
                || asks_the_tool.is_some_and(|typed| verbs.iter().any(|verb| typed.starts_with(verb)))
                || typed.starts_with("./deploy.sh logs ")
                || typed.starts_with("cargo run ") && typed.ends_with(" list"))
    }
}

/// Each flag of these programs has a value, so a word that follows no flag is a verb.
fn has_no_verb(arguments: &[&str]) -> bool {
    let mut is_value = false;
    arguments.iter().all(|word| {
        let is_flag = word.starts_with("--");
        let is_verb = !is_flag && !is_value;
        is_value = is_flag;
        !is_verb
    })
}
