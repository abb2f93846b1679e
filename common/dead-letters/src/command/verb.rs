//! The command line of `dead-letters`.

use clap::{CommandFactory as _, Parser, Subcommand, builder::NonEmptyStringValueParser as NonEmpty};
use messaging::retry::RetryPolicy;

use crate::Filter;

/// Name of the command.
pub const NAME: &str = "dead-letters";

/// Returns the command `dead-letters` with its verbs, for the dead letters of `policy`.
#[must_use]
pub fn command(policy: &RetryPolicy) -> clap::Command {
    let (queue, dead) = (policy.queue(), policy.dead_letter_queue());
    let redrive =
        format!("Puts dead letters back into {queue}, with their ids and without their failure history");
    CommandLine::command()
        .about(format!("Lists, shows, redrives or discards the dead letters in {dead}"))
        .mut_subcommand("redrive", |verb| verb.about(redrive))
}

#[derive(Debug, Parser)]
#[command(name = NAME)]
pub(super) struct CommandLine {
    #[command(subcommand)]
    pub(super) verb: Verb,
    /// Prints one JSON document
    #[arg(long, global = true)]
    pub(super) json: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub(super) enum Verb {
    /// Prints a line for each dead letter, oldest failure first
    List {
        /// Only dead letters whose reason contains TEXT
        #[arg(long, value_name = "TEXT", value_parser = NonEmpty::new())]
        reason: Option<String>,
        /// Lists at most N dead letters
        #[arg(long, value_name = "N", default_value_t = 1000, value_parser = limit, allow_negative_numbers = true)]
        limit: u32,
    },
    /// Prints a dead letter in full, with its body
    Show {
        /// The id of a dead letter, or its beginning
        #[arg(value_parser = NonEmpty::new())]
        id: String,
    },
    Redrive {
        /// The id of a dead letter, or its beginning
        #[arg(group = "which", value_parser = NonEmpty::new())]
        id: Option<String>,
        /// All dead letters that are there now
        #[arg(long, group = "which")]
        all: bool,
        /// Only dead letters whose reason contains TEXT
        #[arg(long, group = "which", value_name = "TEXT", value_parser = NonEmpty::new())]
        reason: Option<String>,
        /// Prints what would be done, and does nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Removes a dead letter for good
    Discard {
        /// The id of a dead letter, or its beginning
        #[arg(value_parser = NonEmpty::new())]
        id: String,
        /// Does not ask for confirmation
        #[arg(long)]
        yes: bool,
        /// Prints what would be done, and does nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// Parses a number of dead letters.
fn limit(text: &str) -> Result<u32, String> {
    let limit = text.parse().ok().filter(|limit| *limit > 0);
    limit.ok_or_else(|| format!("write a number from 1 to {}, as in --limit 20", u32::MAX))
}

impl Verb {
    /// Returns which dead letters are meant.
    ///
    /// # Errors
    /// A redrive that does not say which.
    pub(super) fn filter(&self) -> Result<Filter, String> {
        match self.clone() {
            Self::Show { id } | Self::Discard { id, .. } | Self::Redrive { id: Some(id), .. } => {
                Ok(Filter::IdPrefix(id))
            }
            Self::List { reason: Some(reason), .. } | Self::Redrive { reason: Some(reason), .. } => {
                Ok(Filter::Reason(reason))
            }
            Self::Redrive { all: false, .. } => {
                Err("redrive: which dead letters? Give an ID, or --reason TEXT, or --all".into())
            }
            Self::List { .. } | Self::Redrive { .. } => Ok(Filter::All),
        }
    }

    /// Returns whether to ask for confirmation.
    ///
    /// # Errors
    /// Nobody can be asked.
    pub(super) fn confirms(&self, is_terminal: bool) -> Result<bool, String> {
        match self {
            Self::Discard { yes: false, dry_run: false, .. } if !is_terminal => {
                Err("discard: standard input is not a terminal, so it cannot ask for confirmation: add --yes"
                    .into())
            }
            Self::Discard { yes: false, dry_run: false, .. } => Ok(true),
            _ => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches as _;

    use super::*;

    fn parse(line: &str) -> Result<CommandLine, String> {
        let command = command(&RetryPolicy::new("q", &[]));
        let matches = command.try_get_matches_from(line.split(' ')).map_err(|e| e.to_string())?;
        CommandLine::from_arg_matches(&matches).map_err(|e| e.to_string())
    }

    #[test]
    fn a_command_line_says_which_dead_letters_are_meant_and_whether_to_ask() {
        let prefix = || Filter::IdPrefix("01a".into());
        let json = || Filter::Reason("JSON".into());
        for (line, filter, confirms) in [
            ("dead-letters list", Filter::All, false),
            ("dead-letters list --limit 3 --reason JSON", json(), false),
            ("dead-letters show 01a", prefix(), false),
            ("dead-letters redrive 01a", prefix(), false),
            ("dead-letters redrive --all", Filter::All, false),
            ("dead-letters redrive --reason JSON", json(), false),
            ("dead-letters redrive --all --dry-run", Filter::All, false),
            ("dead-letters discard 01a", prefix(), true),
            ("dead-letters discard 01a --yes", prefix(), false),
            ("dead-letters discard 01a --dry-run", prefix(), false),
        ] {
            let verb = parse(line).unwrap().verb;
            assert_eq!((verb.filter(), verb.confirms(true)), (Ok(filter), Ok(confirms)), "{line}");
        }
        let CommandLine { verb, json } = parse("dead-letters list --json").unwrap();
        assert_eq!((verb, json), (Verb::List { reason: None, limit: 1000 }, true));
    }

    #[test]
    fn a_command_line_that_lacks_something_is_refused_with_what_to_add() {
        for (line, says) in [
            ("dead-letters --json", "requires a subcommand"),
            ("dead-letters redrive", "an ID, or --reason TEXT, or --all"),
            ("dead-letters redrive --all 01a", "cannot be used with"),
            ("dead-letters discard 01a", "add --yes"),
            ("dead-letters discard", "required"),
            ("dead-letters list --limit 0", "write a number from 1 to 4294967295, as in --limit 20"),
            ("dead-letters list --limit -1", "write a number from 1"),
            ("dead-letters list --limit few", "write a number from 1"),
            ("dead-letters show ", "value is required"),
        ] {
            let checked = parse(line).and_then(|CommandLine { verb, .. }| {
                verb.filter()?;
                verb.confirms(false)
            });
            let why = checked.unwrap_err();
            assert!(why.contains(says), "{line}: {why}");
        }
    }
}
