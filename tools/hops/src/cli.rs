//! The command line: Docker's words where Docker has a word for it.

mod words;

use std::ffi::OsString;

use clap::ArgMatches;

use crate::failure::{Failure, Result};

/// What was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Typed {
    /// What to do.
    pub verb: Verb,
    /// For programs.
    pub json: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is explained by the text that `cargo hops --help` prints for it")]
pub enum Verb {
    Up {
        detach: bool,
        broker: Option<String>,
        release: bool,
    },
    Ls,
    Ps {
        name: String,
    },
    Logs {
        names: Vec<String>,
        follow: bool,
        request: Option<String>,
    },
    Scale {
        wanted: Vec<(String, u32)>,
    },
    Update {
        name: String,
        force: bool,
    },
    Kill {
        task: String,
    },
    Walk {
        account: String,
    },
    Queues {
        broker: Option<String>,
    },
    Peek {
        name: String,
        broker: Option<String>,
    },
    Verify(Verify),
    Status,
    Down {
        all: bool,
    },
    /// The supervisor itself, which nobody types.
    Supervise {
        binaries: String,
    },
}

/// Arguments of `verify`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verify {
    /// How many reads.
    pub reads: usize,
    /// Which task to kill in the middle.
    pub kill: Option<String>,
    /// Another accountservice than the one that is up here.
    pub account_url: Option<String>,
    /// Another vipservice.
    pub vip_url: Option<String>,
    /// Where to count dead letters.
    pub broker: Option<String>,
    /// How many seconds nothing may move while something is missing.
    pub patience: u64,
}

/// Reads the command line.
///
/// # Errors
/// What is wrong, in one line; help, on standard output, is [`Failure::Said`]'s good sister and comes as `Ok(None)`.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Option<Typed>> {
    let args: Vec<OsString> = args.into_iter().collect();
    if let Some(why) = args.get(1).and_then(|word| of_services(word.to_str()?)) {
        return Err(Failure::Usage(why));
    }
    let matches = match words::command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(help) if !help.use_stderr() => {
            let _ = help.print();
            return Ok(None);
        }
        Err(error) => return Err(Failure::Usage(one_line(&error.to_string()))),
    };
    Ok(Some(Typed { verb: verb(&matches)?, json: matches.get_flag("json") }))
}

fn verb(matches: &ArgMatches) -> Result<Verb> {
    let (name, of) = matches.subcommand().ok_or_else(|| Failure::Usage("which verb?".into()))?;
    let text = |of: &ArgMatches, id: &str| of.get_one::<String>(id).cloned();
    let needed = |of: &ArgMatches, id: &str| text(of, id).unwrap_or_default();
    Ok(match name {
        "up" => Verb::Up {
            detach: of.get_flag("detach"),
            broker: text(of, "broker"),
            release: of.get_flag("release"),
        },
        "service" => match of.subcommand() {
            Some(("ps", of)) => Verb::Ps { name: service_name(&needed(of, "name")) },
            Some(("logs", of)) => {
                let names = of.get_many::<String>("name").unwrap_or_default().map(|name| service_name(name));
                let names = names.collect();
                Verb::Logs { names, follow: of.get_flag("follow"), request: text(of, "request") }
            }
            Some(("scale", of)) => {
                let wanted = of.get_many::<String>("wanted").unwrap_or_default();
                Verb::Scale { wanted: wanted.map(|wanted| scale(wanted)).collect::<Result<_>>()? }
            }
            Some(("update", of)) => {
                Verb::Update { name: service_name(&needed(of, "name")), force: of.get_flag("force") }
            }
            _ => Verb::Ls,
        },
        "kill" => Verb::Kill { task: service_name(&needed(of, "task")) },
        "walk" => Verb::Walk { account: needed(of, "account") },
        "queues" => match of.subcommand() {
            Some((_, peek)) => Verb::Peek { name: needed(peek, "name"), broker: text(peek, "broker") },
            None => Verb::Queues { broker: text(of, "broker") },
        },
        "verify" => Verb::Verify(Verify {
            reads: of.get_one::<u32>("read").copied().unwrap_or_default() as usize,
            kill: text(of, "kill").map(|name| service_name(&name)),
            account_url: text(of, "account-url"),
            vip_url: text(of, "vip-url"),
            broker: text(of, "broker"),
            patience: of.get_one::<u64>("patience").copied().unwrap_or_default(),
        }),
        "status" => Verb::Status,
        "down" => Verb::Down { all: of.get_flag("all") },
        _ => Verb::Supervise { binaries: needed(of, "binaries") },
    })
}

/// In a stack a service has the stack's name before its own, and who knows it by that name is understood.
fn service_name(name: &str) -> String {
    name.strip_prefix("hops_").unwrap_or(name).to_owned()
}

fn scale(wanted: &str) -> Result<(String, u32)> {
    let parsed =
        wanted.split_once('=').and_then(|(name, count)| Some((service_name(name), count.parse().ok()?)));
    let parsed = parsed.filter(|(_, count)| *count <= 50);
    parsed.ok_or_else(|| {
        Failure::Usage(format!(
            "`{wanted}`: write NAME=N, N from 0 to 50, as in `cargo hops service scale vipservice=3`"
        ))
    })
}

/// What to type for a verb that is one of `service`, as it is with Docker, and stands without that word.
fn of_services(word: &str) -> Option<String> {
    let command = words::command();
    let is_one =
        command.find_subcommand("service").is_some_and(|verbs| verbs.find_subcommand(word).is_some());
    is_one.then(|| format!("`{word}` is a verb of services: `cargo hops service {word}`"))
}

/// What clap says in several lines, and its advice at the end.
fn one_line(usage: &str) -> String {
    let lines = usage
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let text: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    let text = text.join(" ").replace(" tip: ", "; ");
    format!("{} (`cargo hops --help` lists the verbs)", text.trim_start_matches("error: "))
}

/// The two parts of a task's name: `vipservice.2`.
///
/// # Errors
/// It is none, with what one looks like.
pub fn task_name(task: &str) -> Result<(String, u32)> {
    let parts = task.rsplit_once('.').and_then(|(name, slot)| Some((name.to_owned(), slot.parse().ok()?)));
    parts.ok_or_else(|| Failure::Usage(format!("`{task}`: a task is called NAME.N, as in vipservice.2")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str) -> Result<Option<Typed>> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn verbs_are_dockers() {
        for (line, expected) in [
            ("hops up -d", Verb::Up { detach: true, broker: None, release: false }),
            ("hops service ls", Verb::Ls),
            ("hops service ps hops_vipservice", Verb::Ps { name: "vipservice".into() }),
            ("hops service scale hops_vipservice=3", Verb::Scale { wanted: vec![("vipservice".into(), 3)] }),
            ("hops kill vipservice.2", Verb::Kill { task: "vipservice.2".into() }),
            ("hops walk", Verb::Walk { account: "10000".into() }),
            ("hops queues peek q --broker b", Verb::Peek { name: "q".into(), broker: Some("b".into()) }),
            ("hops queues", Verb::Queues { broker: None }),
            ("hops down --all", Verb::Down { all: true }),
            (
                "hops service logs -f --request 7f3a",
                Verb::Logs { names: vec![], follow: true, request: Some("7f3a".into()) },
            ),
        ] {
            assert_eq!(typed(line).unwrap().unwrap().verb, expected, "{line}");
        }
        assert!(typed("hops --json status").unwrap().unwrap().json);
        assert!(typed("hops service ls --json").unwrap().unwrap().json);
    }

    #[test]
    fn what_is_no_command_is_one_line_that_says_what_to_type() {
        for line in
            ["hops", "hops fly", "hops service scale vipservice", "hops service scale vipservice=many"]
        {
            let Err(Failure::Usage(why)) = typed(line) else { panic!("{line}") };
            assert!(!why.contains('\n') && why.contains("cargo hops"), "{why}");
        }
        for (line, instead) in [
            ("hops logs -f", "cargo hops service logs"),
            ("hops ps x", "cargo hops service ps"),
            ("hops queus", "; a similar subcommand exists: 'queues'"),
        ] {
            assert!(typed(line).unwrap_err().to_string().contains(instead), "{line}");
        }
        assert!(task_name("vipservice").is_err());
        assert_eq!(task_name("vipservice.2").unwrap(), ("vipservice".into(), 2));
    }
}
