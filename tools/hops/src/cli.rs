//! The command line, with Docker's words where Docker has one. Doc comments of the arguments are what `--help` prints.
//!
//! - `arguments`: arguments of each verb
//! - `values`: their values, and the errors about wrong ones

mod arguments;
mod values;

use std::ffi::OsString;

use clap::{
    CommandFactory as _, Parser, Subcommand,
    error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand as NoVerb,
};

use self::values::{number, service_name};
pub use self::{
    arguments::{Condition, LogView, QueueVerb, Read, ServiceVerb, Up, Verify},
    values::{Scale, TaskName},
};
use crate::{
    failure::{Failure, Result},
    ports::SEATS,
    render::as_typed,
};

/// Error about a command that is not for a stack.
const SWARM_VERBS: &str = "--swarm is for `cargo hops --swarm status`, `stats`, `service logs`, `walk`, `verify`, `queues` and `live`, with \
     the stack's own addresses; ./deploy.sh has the other commands for the stack";

/// Runs the system of docker-compose.yml as processes of this machine, with Docker's verbs
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(name = "cargo hops", bin_name = "cargo hops", arg_required_else_help = true)]
pub struct CommandLine {
    /// Command to run.
    #[command(subcommand)]
    pub verb: Verb,
    /// Prints JSON instead of text, one value per line
    #[arg(long, global = true)]
    pub json: bool,
    /// Means the stack on Docker Swarm instead of the processes of this checkout; for `status`, `stats`, `service logs`,
    /// `walk`, `verify`, `queues` and `live`
    #[arg(long, global = true)]
    pub swarm: bool,
}

/// Commands of `cargo hops`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Verb {
    /// Builds the services, starts them and waits until they are ready; Ctrl-C stops them
    Up(Up),
    /// Prints the address of the page on which the messages move, and starts its server if it does not run
    Live {
        /// Opens the page in your browser
        #[arg(long)]
        open: bool,
        /// Leaves out everything that changes the system
        #[arg(long)]
        read_only: bool,
    },
    /// Shows and changes what runs, like `docker service`
    #[command(subcommand)]
    Service(ServiceVerb),
    /// Replaces the tasks of services by new ones from a new build, like `service update --force`
    Update {
        /// Names of the services
        #[arg(value_name = "NAME", value_parser = service_name, required = true)]
        names: Vec<String>,
    },
    /// Waits until something is so, for pages and scripts; fails with what was seen last if it is not so in time
    Wait {
        /// Condition to wait for.
        #[command(subcommand)]
        condition: Condition,
        /// Waits at most so long
        #[arg(long, value_name = "SECONDS", default_value = "60", allow_negative_numbers = true, global = true,
            value_parser = number::<u64>(0..=86_400, "cargo hops wait ready --timeout 60"))]
        timeout: u64,
    },
    /// Kills one task with `kill -9`; its restart policy decides whether it starts again
    Kill {
        /// Task to kill, as in vipservice.2
        #[arg(value_name = "NAME.N")]
        task: TaskName,
    },
    /// Freezes one task, which keeps its connections and its messages; it is not health-checked until `unpause`
    Pause {
        /// Task to freeze, as in vipservice.2
        #[arg(value_name = "NAME.N")]
        task: TaskName,
    },
    /// Resumes a paused task
    Unpause {
        /// Task to resume, as in vipservice.2
        #[arg(value_name = "NAME.N")]
        task: TaskName,
    },
    /// Reads an account once or N times, and shows who answered what and when
    Read(Read),
    /// Reads an account, and shows the nine hops of its notification as they happen; or writes one
    Walk {
        /// Id of the account
        #[arg(default_value = "10000", conflicts_with = "write")]
        account: String,
        /// Writes account 1, and shows how the change reaches every accountservice
        #[arg(long)]
        write: bool,
    },
    /// Lists the broker's queues, apart from those of one connection; its verbs show or change one
    Queues {
        /// Uses this broker instead of the system's
        #[arg(long, value_name = "URL", global = true)]
        broker: Option<String>,
        /// Command for one queue; without it, all queues are listed.
        #[command(subcommand)]
        verb: Option<QueueVerb>,
    },
    /// Reads the VIP's account and matches each read with its offer
    Verify(Verify),
    /// Plays what the system does in five steps: read, scale, kill, a poison message, redrive
    Tour,
    /// Checks whether what a chapter asks for under "Now change it" is done
    Check {
        /// Numbers of the chapters
        #[arg(value_name = "CHAPTER", required_unless_present = "all", conflicts_with = "all",
            value_parser = number::<u32>(1..=99, "cargo hops check 4"))]
        chapters: Vec<u32>,
        /// Checks all chapters
        #[arg(long)]
        all: bool,
    },
    /// Takes a guarantee away from the source, so that you can see what it is for: auto-ack, no-dedupe or no-outbox
    Break {
        /// Name of a patch in docs/walkthrough/faults
        #[arg(value_name = "NAME")]
        guarantee: String,
    },
    /// Puts back what `break` has taken away
    Mend,
    /// Lists everything that runs, with its memory
    Status,
    /// Shows the CPU and memory of each task, like `docker stats --no-stream`
    Stats,
    /// Prints a shell's settings for the ports of this checkout, as in `eval "$(cargo hops env --seat 3)"`
    Env {
        /// Seat of a class that shares one machine: each has other ports
        #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = number(SEATS, "cargo hops env --seat 3"))]
        seat: Option<u16>,
    },
    /// Stops everything that `up` has started, and keeps its data
    Down {
        /// Removes all data, secrets, logs and binaries, too: the folder .hops
        #[arg(long)]
        all: bool,
    },
    /// Creates a service that reads the offers, with its settings and its lines in docker-compose.yml
    New {
        /// Name of the service, as in mailservice
        name: String,
    },
    /// Serves the page; `up` and `live` start it.
    #[command(skip)]
    LiveServe {
        /// Leaves out everything that changes the system.
        read_only: bool,
    },
    /// Runs the supervisor; `up` starts it.
    #[command(skip)]
    Supervise {
        /// Folder with the binaries of the tasks.
        binaries: String,
    },
}

impl Verb {
    /// Parses the command line of a process that the tool itself starts. Clap does not know these verbs, so that no help, no
    /// suggestion and no completion names them.
    fn of_own_process(words: &[OsString]) -> Option<Self> {
        let words: Vec<_> = words.iter().skip(1).map(|word| word.to_str()).collect::<Option<_>>()?;
        match words[..] {
            ["supervise", binaries] => Some(Self::Supervise { binaries: binaries.to_owned() }),
            ["live-serve", ref flags @ ..] => Some(Self::LiveServe { read_only: flags == ["--read-only"] }),
            _ => None,
        }
    }

    /// Returns why there is no such command for a stack, if there is none.
    fn swarm_problem(&self) -> Option<&'static str> {
        match self {
            Self::Live { .. } | Self::Status | Self::Stats | Self::Walk { .. } => None,
            Self::Queues { broker: None, .. } | Self::Service(ServiceVerb::Logs { .. }) => None,
            Self::Verify(Verify { freeze: Some(_), .. }) => Some(
                "--freeze is for processes: a swarm replaces a frozen container, since it fails its health check; \
                 `cargo hops --swarm verify --kill NAME.N` kills one",
            ),
            Self::Verify(Verify { account_url: None, vip_url: None, broker: None, .. }) => None,
            _ => Some(SWARM_VERBS),
        }
    }

    /// Returns true if the command needs the supervisor from the start.
    pub(crate) fn needs_supervisor(&self) -> bool {
        match self {
            Self::Kill { .. } | Self::Pause { .. } | Self::Unpause { .. } | Self::Update { .. } => true,
            Self::Wait { .. }
            | Self::Read(_)
            | Self::Walk { .. }
            | Self::Status
            | Self::Stats
            | Self::Tour
            | Self::Check { .. }
            | Self::Live { .. } => true,
            Self::Service(verb) => !matches!(verb, ServiceVerb::Logs { .. }),
            _ => false,
        }
    }
}

/// Parses the command line. Returns `None` if it asks for help or has no verb; the help is then printed.
///
/// # Errors
/// [`Failure::Usage`] with one line if the command line is wrong.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Option<CommandLine>, Failure> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if let Some(verb) = Verb::of_own_process(&arguments) {
        return Ok(Some(CommandLine { verb, json: false, swarm: false }));
    }
    let command = CommandLine::command();
    let mut words = arguments.iter().skip(1).filter_map(|word| word.to_str());
    let is_unknown = |word: &str| word != "help" && command.find_subcommand(word).is_none();
    if arguments.iter().any(|word| word == "--swarm")
        && words.find(|word| !word.starts_with('-')).is_some_and(is_unknown)
    {
        return Err(Failure::Usage(SWARM_VERBS.into()));
    }
    if let Some(advice) = arguments.get(1).and_then(|word| service_verb_advice(word.to_str()?)) {
        return Err(Failure::Usage(advice));
    }
    match CommandLine::try_parse_from(arguments) {
        Ok(command_line) => {
            let problem = command_line.verb.swarm_problem().filter(|_| command_line.swarm);
            problem.map_or(Ok(Some(command_line)), |problem| Err(Failure::Usage(problem.into())))
        }
        Err(help) if !help.use_stderr() || help.kind() == NoVerb => {
            output::print(&as_typed(&help.to_string()));
            Ok(None)
        }
        Err(error) => Err(Failure::Usage(one_line(&error.to_string()))),
    }
}

/// Returns what to type if `word` is a command of `service`, as it is with Docker, and `service` is missing.
fn service_verb_advice(word: &str) -> Option<String> {
    let command = CommandLine::command();
    let own = command.find_subcommand(word);
    command.find_subcommand("service")?.find_subcommand(word).filter(|_| own.is_none())?;
    Some(format!("`{word}` is a verb of services: `cargo hops service {word}`"))
}

/// Joins the lines of clap's error, without the usage at its end.
fn one_line(error: &str) -> String {
    let lines = error
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let text: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    let text = text.join(" ").replace(" tip: ", "; ");
    format!("{} (`cargo hops --help` lists the verbs)", text.trim_start_matches("error: "))
}

#[cfg(test)]
mod tests;
