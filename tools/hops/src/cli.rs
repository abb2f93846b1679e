//! The command line: Docker's words where Docker has a word for it.

use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, Command};

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
    Ledger(Ledger),
    Status,
    Down {
        all: bool,
    },
    /// The supervisor itself, which nobody types.
    Supervise {
        binaries: String,
    },
}

/// What `ledger` is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
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

fn command() -> Command {
    let text = |id: &'static str, name: &'static str| Arg::new(id).value_name(name);
    let option = |id: &'static str, name: &'static str| text(id, name).long(id);
    let flag = |id: &'static str| Arg::new(id).long(id).action(ArgAction::SetTrue);
    let broker = || option("broker", "URL");
    Command::new("cargo hops")
        .about("The system of docker-compose.yml as processes of this machine, with Docker's verbs")
        .subcommand_required(true)
        .arg(flag("json").global(true).help("JSON instead of text: one value per line"))
        .subcommand(
            Command::new("up")
                .about("Builds the services, starts them, waits until they are ready; Ctrl-C takes them down")
                .arg(
                    flag("detach").short('d').help("Comes back when they are ready, and leaves them running"),
                )
                .arg(broker().help("A broker that is there already, as in amqp://guest:guest@localhost:5672"))
                .arg(flag("release").help("Builds them as they are shipped, which takes minutes longer")),
        )
        .subcommand(
            Command::new("service")
                .about("What runs, as `docker service` has it")
                .subcommand_required(true)
                .subcommand(Command::new("ls").about("The services"))
                .subcommand(
                    Command::new("ps")
                        .about("The tasks of a service, those that ended too")
                        .arg(text("name", "NAME").required(true)),
                )
                .subcommand(
                    Command::new("logs")
                        .about("What the tasks print")
                        .arg(
                            text("name", "NAME")
                                .num_args(0..)
                                .help("A service or a task; all if none is named"),
                        )
                        .arg(flag("follow").short('f').help("Goes on until Ctrl-C"))
                        .arg(option("request", "ID").help("Only the lines of one request")),
                )
                .subcommand(
                    Command::new("scale")
                        .about("More or fewer tasks; comes back when they are ready")
                        .arg(text("wanted", "NAME=N").required(true).num_args(1..)),
                )
                .subcommand(
                    Command::new("update")
                        .about("New tasks for old ones, of what is built now, in the order of update_config")
                        .arg(flag("force").help("Even if nothing has changed"))
                        .arg(text("name", "NAME").required(true)),
                ),
        )
        .subcommand(
            Command::new("kill")
                .about("kill -9 one task; it comes back by its restart policy")
                .arg(text("task", "NAME.N").required(true)),
        )
        .subcommand(
            Command::new("walk")
                .about("One read, and its nine hops as they happen")
                .arg(text("account", "ACCOUNT").default_value("10000")),
        )
        .subcommand(
            Command::new("queues")
                .about("The broker's queues")
                .arg(broker().global(true).help("Another broker's"))
                .subcommand(
                    Command::new("peek")
                        .about("The first message of a queue with its properties, left where it is")
                        .arg(text("name", "NAME").required(true)),
                ),
        )
        .subcommand(
            Command::new("ledger")
                .about("Reads of the VIP's account, and whether each became one offer")
                .arg(
                    option("read", "N")
                        .default_value("100")
                        .value_parser(clap::value_parser!(u32).range(1..=9000)),
                )
                .arg(option("kill", "NAME.N").help("A task to kill in the middle"))
                .arg(option("account-url", "URL").help("Another accountservice, as in http://localhost:6767"))
                .arg(option("vip-url", "URL").help("Another vipservice, as in http://localhost:6868"))
                .arg(broker().help("Another broker, to count dead letters at"))
                .arg(
                    option("patience", "SECONDS")
                        .default_value("60")
                        .value_parser(clap::value_parser!(u64))
                        .help("For how long nothing may move before what is missing is lost"),
                ),
        )
        .subcommand(Command::new("status").about("Everything that runs, with its memory"))
        .subcommand(
            Command::new("down")
                .about("Ends everything")
                .arg(flag("all").help("And removes all data, secrets, logs and copies: the folder .hops")),
        )
        .subcommand(Command::new("supervise").hide(true).arg(text("binaries", "DIR").required(true)))
}

/// Reads the command line.
///
/// # Errors
/// What is wrong, in one line; help, on standard output, is [`Failure::Said`]'s good sister and comes as `Ok(None)`.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Option<Typed>> {
    let matches = match command().try_get_matches_from(args) {
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
        "ledger" => Verb::Ledger(Ledger {
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

/// What clap says in several lines, and its advice at the end.
fn one_line(usage: &str) -> String {
    let lines = usage
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let text: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    format!("{} (`cargo hops --help` lists the verbs)", text.join(" ").trim_start_matches("error: "))
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
        assert!(task_name("vipservice").is_err());
        assert_eq!(task_name("vipservice.2").unwrap(), ("vipservice".into(), 2));
    }
}
