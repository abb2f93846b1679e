//! Dead letters from a shell: `vipservice dead-letters list|show|redrive|discard`.
//!
//! It works beside running vipservices, declares nothing and logs nothing: with `--json` standard output is one
//! document, and what goes wrong is a sentence on standard error.

use std::{
    collections::BTreeSet,
    io::{self, BufRead, IsTerminal as _, Write as _},
    sync::Arc,
    time::Duration,
};

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, builder::NonEmptyStringValueParser, value_parser};
use contracts::topology::{OFFERS, VIP_QUEUE};
use messaging::{
    BrowseError, LinkStatus, MessagingClient as _, QueueBrowser as _, Replay,
    amqp::{AmqpClient, AmqpOptions},
    metrics::Metrics,
    topology::Topology,
};
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{DeadLetters, Verb, Wanted, print};
use crate::{offers::view::View, settings::Settings};

/// The verbs.
#[must_use]
pub fn command() -> Command {
    let flag = |name: &'static str, help| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    let text = |name: &'static str| Arg::new(name).value_parser(NonEmptyStringValueParser::new());
    let id = || text("id").value_name("ID").help("A letter's id, or its beginning");
    let reason = text("reason").long("reason").value_name("TEXT").help("Those whose reason contains this");
    let limit = Arg::new("limit").long("limit").value_name("N").value_parser(value_parser!(u32).range(1..));
    let dry_run = flag("dry-run", "Says what would be done, and does nothing");
    let verb = |name: &'static str, about, args: &[Arg]| {
        Command::new(name).about(about).args(args).arg(flag("json", "Prints one JSON document"))
    };
    Command::new("dead-letters")
        .about("Shows, redrives or discards what was given up and waits in vip_queue.dead")
        .subcommand_required(true)
        .subcommand(verb(
            "list",
            "Prints a line for each letter, oldest failure first",
            &[reason.clone(), limit.help("How many at most (default 1000)")],
        ))
        .subcommand(verb("show", "Prints all of a letter, its body included", &[id().required(true)]))
        .subcommand(
            verb(
                "redrive",
                "Puts letters back into vip_queue, each with its id and without its story",
                &[id(), flag("all", "All that are there now"), reason, dry_run.clone()],
            )
            .group(ArgGroup::new("which").args(["id", "all", "reason"])),
        )
        .subcommand(verb(
            "discard",
            "Removes a letter for good",
            &[id().required(true), flag("yes", "Does not ask"), dry_run],
        ))
}

/// What a person asked for.
#[derive(Debug, PartialEq, Eq)]
struct Question {
    name: String,
    verb: Verb,
    /// What was done with a letter, as a word.
    word: &'static str,
    wanted: Wanted,
    limit: usize,
    json: bool,
    /// Whether to be asked first.
    ask: bool,
}

impl Question {
    fn of(matches: &ArgMatches, is_terminal: bool) -> Result<Self, String> {
        let (name, args) = matches.subcommand().unwrap_or(("list", matches));
        let is_set = |flag: &str| args.try_get_one(flag).ok().flatten() == Some(&true);
        let text = |name: &str| args.try_get_one::<String>(name).ok().flatten().cloned();
        let wanted = match (text("id"), text("reason")) {
            (Some(id), _) => Wanted::Abbreviated(id),
            (None, Some(reason)) => Wanted::Reason(reason),
            (None, None) if name == "redrive" && !is_set("all") => {
                return Err("redrive: say which: an ID, or --reason TEXT, or --all".into());
            }
            (None, None) => Wanted::All,
        };
        let (verb, word) = match (name, is_set("dry-run")) {
            ("redrive", true) => (Verb::Look, "would be redriven"),
            ("redrive", false) => (Verb::Redrive, "redriven"),
            ("discard", true) => (Verb::Look, "would be discarded"),
            ("discard", false) => (Verb::Discard, "discarded"),
            _ => (Verb::Look, "shown"),
        };
        let ask = verb == Verb::Discard && !is_set("yes");
        if ask && !is_terminal {
            return Err("discard: standard input is no terminal, so nobody can be asked: say --yes".into());
        }
        let limit = args.try_get_one::<u32>("limit").ok().flatten().map_or(1000, |n| *n as usize);
        Ok(Self { name: name.into(), verb, word, wanted, limit, json: is_set("json"), ask })
    }
}

/// Does what was asked for.
///
/// # Errors
/// What is missing in the question, or in the way; what was done until then is printed.
pub async fn run(matches: &ArgMatches, settings: &Settings) -> Result<(), String> {
    let question = Question::of(matches, io::stdin().is_terminal())?;
    let options = AmqpOptions::new(&settings.shared, "vipservice dead-letters", Topology::default())?;
    let client = Arc::new(AmqpClient::new(options, Metrics::registered(&mut Registry::default())));
    client.connect();
    let patience = settings.shared.amqp_operation_timeout;
    let work = async {
        let view = Arc::new(View::new(settings.offers_max, &mut Registry::default()));
        replay(&client, &view, patience).await?;
        answer(
            question,
            &DeadLetters::new(Arc::clone(&client) as _, Arc::clone(&client) as _, view, patience),
        )
        .await
    };
    let done = work.await;
    let status = client.status().consuming;
    client.close().await;
    let hint = "start the broker, or say where it is with --amqp-server-url";
    done.map_err(|why| if let LinkStatus::Connecting(_) = status { format!("{why}; {hint}") } else { why })
}

/// Fills the view with all offers. If that takes too long, it says of none whether it is there.
async fn replay(client: &AmqpClient, view: &Arc<View>, patience: Duration) -> Result<(), String> {
    match client.count_ready(OFFERS).await {
        Ok(_) => drop(client.replay(OFFERS, view.reader())),
        // No vipservice has been here, so there is no offer either.
        Err(BrowseError::Missing(_)) => view.apply(Replay::CaughtUp),
        Err(error) => return Err(error.to_string()),
    }
    let filled = async {
        while view.check().is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let _ = timeout(patience, filled).await;
    Ok(())
}

async fn answer(mut question: Question, letters: &DeadLetters) -> Result<(), String> {
    if question.name == "list" {
        return list(&question, letters).await;
    }
    if let Wanted::Abbreviated(start) = &question.wanted {
        let found = letters.list(&question.wanted, usize::MAX).await?.dead_letters;
        question.wanted = Wanted::Id(the_one(start, &found.into_iter().map(|letter| letter.id).collect())?);
    }
    let Question { name, verb, word, wanted, json, .. } = &question;
    if question.ask {
        let mut shown = String::new();
        let show = |letter: &_, message: &_| shown += &print::in_full(letter, message);
        letters.walk(wanted, Verb::Look, usize::MAX, show).await?;
        let _ = write!(io::stderr(), "{shown}Discard it for good? [y/N] ");
        if !is_yes(&mut io::stdin().lock()) {
            let _ = writeln!(io::stderr(), "nothing is discarded");
            return Ok(());
        }
    }
    let (mut count, mut document) = (0, vec![]);
    let tell = |letter: &_, message: &_| {
        count += 1;
        match name.as_str() {
            _ if *json => document.push(print::in_json(letter, message, word)),
            "redrive" => say(&format!("{}: {word}{}", print::plain(&letter.id), outlook(letter.offer))),
            "discard" => say(&format!("{}: {word}", print::plain(&letter.id))),
            _ => say(&print::in_full(letter, message)),
        }
    };
    let done = letters.walk(wanted, *verb, usize::MAX, tell).await;
    match json {
        true => say(&json!({ "deadLetters": document }).to_string()),
        false if name != "show" => say(&format!("{count} {word}")),
        false => {}
    }
    match (done, wanted) {
        (Err(why), _) => Err(format!("{why}; {count} {word} until then, the others are where they were")),
        (Ok(_), Wanted::Id(id)) if count == 0 => Err(format!("{id} is not there any more")),
        (Ok(_), _) => Ok(()),
    }
}

async fn list(question: &Question, letters: &DeadLetters) -> Result<(), String> {
    let page = letters.list(&question.wanted, question.limit).await?;
    if question.json {
        say(&serde_json::to_string(&page).map_err(|e| e.to_string())?);
        return Ok(());
    }
    let width = rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| size.ws_col.into());
    let more = Some(page.more).filter(|more| *more > 0);
    let more = more.map_or_else(String::new, |more| format!("; {more} more not looked at: --limit"));
    let count = page.dead_letters.len();
    say(&format!("{}dead letters: {count}{more}", print::table(&page.dead_letters, width)));
    Ok(())
}

/// What a redrive leads to.
fn outlook(offer: Option<bool>) -> String {
    let offer = match offer {
        Some(true) => "; its offer exists already, and this makes no second one",
        Some(false) => "",
        None => "; whether its offer exists could not be read in time",
    };
    format!(" to {VIP_QUEUE}{offer}")
}

/// The id that `start` abbreviates.
fn the_one(start: &str, ids: &BTreeSet<String>) -> Result<String, String> {
    let some = ids.iter().take(5).map(|id| print::plain(id)).collect::<Vec<_>>().join(", ");
    match ids.len() {
        _ if ids.contains(start) => Ok(start.into()),
        0 => Err(format!(
            "no dead letter's id begins with `{start}`: `vipservice dead-letters list` shows all"
        )),
        1 => Ok(ids.iter().cloned().collect()),
        n => Err(format!(
            "`{start}` may be any of {n}, type more of it: {some}{}",
            if n > 5 { ", ..." } else { "" }
        )),
    }
}

fn is_yes(answer: &mut impl BufRead) -> bool {
    let mut line = String::new();
    let _ = answer.read_line(&mut line);
    ["y", "yes"].contains(&line.trim().to_lowercase().as_str())
}

fn say(text: &str) {
    // A reader that has seen enough (`| head`) is no error.
    let _ = writeln!(io::stdout(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(line: &str, is_terminal: bool) -> Result<Question, String> {
        let matches = command().try_get_matches_from(line.split(' ')).map_err(|e| e.to_string())?;
        Question::of(&matches, is_terminal)
    }

    #[test]
    fn a_command_line_is_a_question_with_all_that_was_said() {
        let of = |line| question(line, true).unwrap();
        let list = of("dead-letters list");
        assert_eq!((list.verb, &list.wanted, list.limit, list.json), (Verb::Look, &Wanted::All, 1000, false));
        let list = of("dead-letters list --limit 3 --reason JSON --json");
        assert_eq!((list.wanted, list.limit, list.json), (Wanted::Reason("JSON".into()), 3, true));
        for (line, verb, wanted, ask) in [
            ("dead-letters show 01a", Verb::Look, Wanted::Abbreviated("01a".into()), false),
            ("dead-letters redrive 01a", Verb::Redrive, Wanted::Abbreviated("01a".into()), false),
            ("dead-letters redrive --all", Verb::Redrive, Wanted::All, false),
            ("dead-letters redrive --reason JSON", Verb::Redrive, Wanted::Reason("JSON".into()), false),
            ("dead-letters redrive --all --dry-run", Verb::Look, Wanted::All, false),
            ("dead-letters discard 01a", Verb::Discard, Wanted::Abbreviated("01a".into()), true),
            ("dead-letters discard 01a --yes", Verb::Discard, Wanted::Abbreviated("01a".into()), false),
            ("dead-letters discard 01a --dry-run", Verb::Look, Wanted::Abbreviated("01a".into()), false),
        ] {
            let question = of(line);
            assert_eq!((question.verb, question.wanted, question.ask), (verb, wanted, ask), "{line}");
        }
    }

    #[test]
    fn a_question_that_lacks_something_is_told_what() {
        for (line, says) in [
            ("dead-letters redrive", "an ID, or --reason TEXT, or --all"),
            ("dead-letters redrive --all 01a", "cannot be used with"),
            ("dead-letters discard 01a", "say --yes"),
            ("dead-letters discard", "required"),
            ("dead-letters list --limit 0", "0"),
            ("dead-letters show ", "value is required"),
        ] {
            let why = question(line, false).unwrap_err();
            assert!(why.contains(says), "{line}: {why}");
        }
    }

    #[test]
    fn an_id_may_be_abbreviated_as_long_as_it_is_clear_which_is_meant() {
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(the_one("01", &ids(&["01a"])), Ok("01a".into()));
        assert_eq!(the_one("7", &ids(&["7", "71"])), Ok("7".into()), "a whole id is clear");
        let why = the_one("01", &ids(&["01a", "01b"])).unwrap_err();
        assert_eq!(why, "`01` may be any of 2, type more of it: 01a, 01b");
        let many = ids(&["01a", "01b", "01c", "01d", "01e", "01f"]);
        assert!(the_one("01", &many).unwrap_err().ends_with("01e, ..."));
        assert!(the_one("01", &ids(&[])).unwrap_err().contains("dead-letters list"));
    }

    #[test]
    fn only_a_clear_yes_is_one() {
        for (typed, yes) in
            [("y\n", true), ("Yes\n", true), ("\n", false), ("", false), ("yesterday\n", false)]
        {
            assert_eq!(is_yes(&mut typed.as_bytes()), yes, "{typed:?}");
        }
    }
}
