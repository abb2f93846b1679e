//! Dead letters from a shell: `SERVICE dead-letters list|show|redrive|discard`.
//!
//! It works beside running services and declares nothing: with `--json` standard output is one document, and an error is
//! a sentence on standard error. It logs the messages that it redrives if the service starts a log. `verb` has the command line.

mod verb;

use std::{
    collections::BTreeSet,
    io::{self, BufRead, IsTerminal as _, Write as _},
    sync::Arc,
};

use clap::{ArgMatches, FromArgMatches as _};
use messaging::{
    LinkStatus, Message, MessagingClient as _,
    amqp::{AmqpClient, AmqpOptions},
    metrics::Metrics,
    retry::RetryPolicy,
};
use output::printable;
use prometheus_client::registry::Registry;
use serde_json::json;

use self::verb::{CommandLine, Verb};
pub use self::verb::{NAME, command};
use crate::{
    Action, DeadLetters, Filter,
    letter::{DeadLetter, Effect, EffectState},
    print,
};

/// Runs the command on the dead letters of `policy`. `effect` is called once the client has begun to connect, since
/// it may have to ask the broker. The command's name in messages is `options.instance`.
///
/// # Errors
/// An incomplete command line, or the failure; everything done before it is printed.
pub async fn run(
    matches: &ArgMatches,
    options: AmqpOptions,
    policy: RetryPolicy,
    effect: impl AsyncFnOnce(&Arc<AmqpClient>) -> Result<Arc<dyn Effect>, String>,
) -> Result<(), String> {
    let CommandLine { verb, json } = CommandLine::from_arg_matches(matches).map_err(|e| e.to_string())?;
    let (filter, confirms) = (verb.filter()?, verb.confirms(io::stdin().is_terminal())?);
    let (name, publish_timeout) = (options.instance.clone(), options.settings.amqp_operation_timeout);
    let client = Arc::new(AmqpClient::new(options, Metrics::registered(&mut Registry::default())));
    client.connect();
    let work = async {
        let effect = effect(&client).await?;
        let letters = DeadLetters::new(client.clone(), client.clone(), policy, effect, publish_timeout);
        let filter = match filter {
            Filter::IdPrefix(start) => Filter::Id(full_id(&letters, start, &name).await?),
            other => other,
        };
        match verb {
            Verb::List { limit, .. } => list(&letters, &filter, limit, json).await,
            _ if confirms && !confirm(&letters, &filter).await? => Ok(()),
            verb => apply(&letters, &filter, &verb, json).await,
        }
    };
    let done = work.await;
    let status = client.status().consuming;
    client.close().await;
    let hint = "start the broker, or say where it is with --amqp-server-url";
    done.map_err(|why| if let LinkStatus::Connecting(_) = status { format!("{why}; {hint}") } else { why })
}

async fn list(letters: &DeadLetters, filter: &Filter, limit: u32, json: bool) -> Result<(), String> {
    let page = letters.list(filter, limit as usize).await?;
    if json {
        output::line(&serde_json::to_string(&page).map_err(|e| e.to_string())?);
        return Ok(());
    }
    let width = rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| size.ws_col.into());
    let more = Some(page.more).filter(|more| *more > 0);
    let more = more.map_or_else(String::new, |more| format!("; {more} more not read: raise --limit"));
    let count = page.dead_letters.len();
    output::lines(&format!("{}dead letters: {count}{more}", print::table(&page.dead_letters, width)));
    Ok(())
}

/// Shows, redrives or discards the dead letters that match, or does as if.
async fn apply(letters: &DeadLetters, filter: &Filter, verb: &Verb, json: bool) -> Result<(), String> {
    let (action, done) = match verb {
        Verb::Redrive { dry_run: true, .. } => (Action::List, "would be redriven"),
        Verb::Redrive { .. } => (Action::Redrive, "redriven"),
        Verb::Discard { dry_run: true, .. } => (Action::List, "would be discarded"),
        Verb::Discard { .. } => (Action::Discard, "discarded"),
        Verb::List { .. } | Verb::Show { .. } => (Action::List, "shown"),
    };
    let (mut count, mut document, queue) = (0, vec![], letters.policy.queue());
    let report = |letter: &DeadLetter, message: &Message| {
        let id = printable(&letter.id);
        count += 1;
        match verb {
            _ if json => document.push(print::in_json(letter, message, done)),
            Verb::Redrive { .. } => {
                output::line(&format!("{id}: {done} to {queue}{}", outlook(letter.effect)))
            }
            Verb::Discard { .. } => output::line(&format!("{id}: {done}")),
            Verb::List { .. } | Verb::Show { .. } => output::lines(&print::in_full(letter, message)),
        }
    };
    let walked = letters.walk(filter, action, usize::MAX, report).await;
    match verb {
        _ if json => output::line(&json!({ "deadLetters": document }).to_string()),
        Verb::List { .. } | Verb::Show { .. } => {}
        Verb::Redrive { .. } | Verb::Discard { .. } => output::line(&format!("{count} {done}")),
    }
    match (walked, filter) {
        (Err(why), _) => Err(format!("{why}; {count} {done} before that, the others are unchanged")),
        (Ok(_), Filter::Id(id)) if count == 0 => Err(format!("{id} is no longer there")),
        (Ok(_), _) => Ok(()),
    }
}

/// Shows the dead letters that match, and asks whether to discard them.
async fn confirm(letters: &DeadLetters, filter: &Filter) -> Result<bool, String> {
    let mut shown = String::new();
    let show = |letter: &_, message: &_| shown += &print::in_full(letter, message);
    letters.walk(filter, Action::List, usize::MAX, show).await?;
    let _ = write!(io::stderr(), "{shown}Discard it for good? [y/N] ");
    let confirmed = is_yes(&mut io::stdin().lock());
    if !confirmed {
        let _ = writeln!(io::stderr(), "nothing was discarded");
    }
    Ok(confirmed)
}

/// Describes the expected outcome of a redrive.
fn outlook(EffectState { name, exists }: EffectState) -> String {
    match exists {
        Some(true) => format!("; its {name} exists already, and this makes no second one"),
        Some(false) => String::new(),
        None => format!("; its {name} may exist already: it is not among those that were read"),
    }
}

/// Returns the one id that begins with `start`.
async fn full_id(letters: &DeadLetters, start: String, name: &str) -> Result<String, String> {
    let found = letters.list(&Filter::IdPrefix(start.clone()), usize::MAX).await?.dead_letters;
    only_match(&start, &found.into_iter().map(|letter| letter.id).collect(), name)
}

fn only_match(start: &str, ids: &BTreeSet<String>, name: &str) -> Result<String, String> {
    let some = ids.iter().take(5).map(|id| printable(id)).collect::<Vec<_>>().join(", ");
    match ids.len() {
        _ if ids.contains(start) => Ok(start.into()),
        0 => Err(format!("no dead letter's id begins with `{start}`: `{name} list` prints all ids")),
        1 => Ok(ids.iter().cloned().collect()),
        n => {
            let more = if n > 5 { ", ..." } else { "" };
            Err(format!("`{start}` matches {n} dead letters, type more of the id: {some}{more}"))
        }
    }
}

fn is_yes(answer: &mut impl BufRead) -> bool {
    let mut line = String::new();
    let _ = answer.read_line(&mut line);
    ["y", "yes"].contains(&line.trim().to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_may_be_abbreviated_as_long_as_it_is_clear_which_is_meant() {
        let only_match = |start: &str, ids: &[&str]| {
            let ids = ids.iter().map(|id| (*id).to_owned()).collect();
            super::only_match(start, &ids, "s dead-letters")
        };
        assert_eq!(only_match("01", &["01a"]), Ok("01a".into()));
        assert_eq!(only_match("7", &["7", "71"]), Ok("7".into()), "a whole id is clear");
        let why = only_match("01", &["01a", "01b"]).unwrap_err();
        assert_eq!(why, "`01` matches 2 dead letters, type more of the id: 01a, 01b");
        let many = ["01a", "01b", "01c", "01d", "01e", "01f"];
        assert!(only_match("01", &many).unwrap_err().ends_with("01e, ..."));
        assert!(only_match("01", &[]).unwrap_err().contains("`s dead-letters list`"));
    }

    #[test]
    fn only_a_clear_yes_is_one() {
        for (typed, yes) in
            [("y\n", true), ("Yes\n", true), ("\n", false), ("", false), ("yesterday\n", false)]
        {
            assert_eq!(is_yes(&mut typed.as_bytes()), yes, "{typed:?}");
        }
    }

    #[test]
    fn a_redrive_says_what_it_leads_to() {
        let of = |exists| outlook(EffectState { name: "offer", exists });
        assert_eq!(of(Some(true)), "; its offer exists already, and this makes no second one");
        assert_eq!(of(Some(false)), "");
        assert_eq!(of(None), "; its offer may exist already: it is not among those that were read");
    }
}
