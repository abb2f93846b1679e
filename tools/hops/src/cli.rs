//! The command line, with Docker's words where Docker has one. Doc comments of the arguments are what `--help` prints.

use std::{convert::Infallible, ffi::OsString, fmt, ops::RangeInclusive, str::FromStr};

use clap::{
    CommandFactory as _, Parser, Subcommand,
    error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand as NoVerb,
};
use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};

use crate::{
    broker::WORK_QUEUE,
    failure::{Failure, Result},
    ports::SEATS,
    render::as_typed,
};

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
    /// Means the stack on Docker Swarm instead of the processes of this checkout; for `live` and `queues`
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
    /// Reads an account, and shows the nine hops of its notification as they happen
    Walk {
        /// Id of the account
        #[arg(default_value = "10000")]
        account: String,
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
        #[arg(value_name = "CHAPTER", required_unless_present = "all", conflicts_with = "all")]
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

    /// Returns true if the command needs the supervisor from the start.
    pub(crate) fn needs_supervisor(&self) -> bool {
        match self {
            Self::Kill { .. } | Self::Pause { .. } | Self::Unpause { .. } | Self::Update { .. } => true,
            Self::Wait { .. }
            | Self::Read(_)
            | Self::Walk { .. }
            | Self::Status
            | Self::Tour
            | Self::Check { .. }
            | Self::Live { .. } => true,
            Self::Service(verb) => !matches!(verb, ServiceVerb::Logs { .. }),
            _ => false,
        }
    }
}

/// Arguments of `up`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Up {
    /// Returns when they are ready, and leaves them running
    #[arg(long, short)]
    pub detach: bool,
    /// Uses this broker instead of the development broker, as in amqp://guest:guest@localhost:5672
    #[arg(long, value_name = "URL")]
    pub broker: Option<String>,
    /// Builds them in the release profile, which takes some minutes longer
    #[arg(long)]
    pub release: bool,
    /// Does not serve the page on which the messages move
    #[arg(long)]
    pub no_live: bool,
}

/// Commands of `cargo hops service`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ServiceVerb {
    /// Lists the services with their images, ports and numbers of tasks
    Ls,
    /// Lists the tasks of a service, including those that have exited
    Ps {
        /// Name of the service
        #[arg(value_parser = service_name)]
        name: String,
    },
    /// Prints the logs of the tasks
    Logs {
        /// Service or task; all if none is named
        #[arg(value_name = "NAME", value_parser = service_name)]
        names: Vec<String>,
        /// Continues until Ctrl-C
        #[arg(long, short)]
        follow: bool,
        /// Prints only the lines of this request
        #[arg(long, value_name = "ID")]
        request: Option<String>,
        /// Part of the lines to print, and how.
        #[command(flatten)]
        view: LogView,
    },
    /// Changes the number of tasks, and returns when they are ready
    Scale {
        /// Service and number of its tasks, as in vipservice=3
        #[arg(value_name = "NAME=N", required = true)]
        scales: Vec<Scale>,
    },
    /// Replaces the tasks of a service by new ones from a new build, in the order of update_config
    Update {
        /// Replaces them even if docker-compose.yml has not changed
        #[arg(long)]
        force: bool,
        /// Name of the service
        #[arg(value_parser = service_name)]
        name: String,
    },
}

/// Part of the logs to print, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct LogView {
    /// Prints the time of each line
    #[arg(long, short)]
    pub timestamps: bool,
    /// Prints only the lines since then: a time ago, as in 5m or 1h30m, or a date, as in 2026-11-20T14:47:38Z
    #[arg(long, value_name = "TIME", value_parser = since, allow_hyphen_values = true)]
    pub since: Option<Timestamp>,
    /// Prints only the last lines of each task
    #[arg(long, short = 'n', value_name = "N", allow_negative_numbers = true,
        value_parser = number::<usize>(0..=1_000_000_000, "cargo hops service logs --tail 20"))]
    pub tail: Option<usize>,
}

/// Arguments of `read`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Read {
    /// Number of reads, by default 1; 0 is without end, as is --rate without a number
    #[arg(value_name = "N", allow_negative_numbers = true, value_parser = number(0..=u32::MAX, "cargo hops read 30"))]
    pub count: Option<u32>,
    /// Id of the account
    #[arg(default_value = "10000")]
    pub account: String,
    /// Sends so many reads a second, whether or not the earlier ones are answered
    #[arg(long, value_name = "R", allow_negative_numbers = true,
        value_parser = number::<u32>(1..=1000, "cargo hops read --rate 20"))]
    pub rate: Option<u32>,
}

/// Commands of `cargo hops queues`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum QueueVerb {
    /// Shows the first message of a queue with its properties; the message stays in the queue
    Peek {
        /// Name of the queue
        name: String,
    },
    /// Publishes a message that nobody can read, which becomes a dead letter
    Poison {
        /// Name of the queue
        #[arg(default_value = WORK_QUEUE)]
        name: String,
    },
    /// Closes the connections of the services, as an operator can at any moment; the services connect again
    Cut,
}

/// Conditions of `cargo hops wait`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Condition {
    /// Waits until all tasks, or those of some services, are ready and connected to the broker
    Ready {
        /// Names of the services; all if none is named
        #[arg(value_name = "NAME", value_parser = service_name)]
        names: Vec<String>,
    },
    /// Waits until a queue has so many messages that are ready for delivery
    Queue {
        /// Queue and number of messages, as in vip_queue=0
        #[arg(value_name = "QUEUE=N", value_parser = pair::<u32>("QUEUE=N, as in `cargo hops wait queue vip_queue=0`"))]
        messages: (String, u32),
    },
    /// Waits until each vipservice shows so many offers, or more
    Offers {
        /// Number of offers
        #[arg(value_name = "N", value_parser = number::<u64>(0..=u64::MAX, "cargo hops wait offers 30"))]
        count: u64,
    },
    /// Waits until a setting has this value in each task of a service
    Setting {
        /// Name of the service
        #[arg(value_parser = service_name)]
        service: String,
        /// Key and value, as in notification_limit=50
        #[arg(value_name = "KEY=VALUE",
            value_parser = pair::<String>("KEY=VALUE, as in `cargo hops wait setting vipservice notification_limit=50`"))]
        value: (String, String),
    },
}

/// Arguments of `verify`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Verify {
    /// Number of reads
    #[arg(long = "read", value_name = "N", default_value = "100", allow_negative_numbers = true,
        value_parser = number::<u32>(1..=9000, "cargo hops verify --read 200"))]
    pub reads: u32,
    /// Kills this task after half of the reads
    #[arg(long, value_name = "NAME.N")]
    pub kill: Option<TaskName>,
    /// Freezes this task before the first read, so that much is in flight at the kill, and resumes it after the last
    #[arg(long, value_name = "NAME.N", requires = "kill", conflicts_with_all = ["account_url", "vip_url"])]
    pub freeze: Option<TaskName>,
    /// Reads from this accountservice instead of the system's, as in http://localhost:6767
    #[arg(long, value_name = "URL")]
    pub account_url: Option<String>,
    /// Gets the offers from this vipservice instead of the system's, as in http://localhost:6868
    #[arg(long, value_name = "URL")]
    pub vip_url: Option<String>,
    /// Counts dead letters at this broker instead of the system's
    #[arg(long, value_name = "URL")]
    pub broker: Option<String>,
    /// Waits this long without progress before it counts missing offers as lost
    #[arg(long, value_name = "SECONDS", default_value = "60", allow_negative_numbers = true,
        value_parser = number::<u64>(0..=86_400, "cargo hops verify --patience 60"))]
    pub patience: u64,
}

/// Name of a task: its service and its slot, as in `vipservice.2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskName {
    /// Name of the service.
    pub service: String,
    /// Number of the task within the service, from 1.
    pub slot: u32,
}

/// Number of tasks that a service is scaled to, as in `vipservice=3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scale {
    /// Name of the service.
    pub service: String,
    /// Number of its tasks.
    pub replicas: u32,
}

impl FromStr for TaskName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.strip_prefix("hops_").unwrap_or(text).rsplit_once('.');
        let task =
            parts.and_then(|(name, slot)| Some(Self { service: name.into(), slot: slot.parse().ok()? }));
        task.ok_or("a task is called NAME.N, as in `cargo hops kill vipservice.2`")
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.service, self.slot)
    }
}

impl FromStr for Scale {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.strip_prefix("hops_").unwrap_or(text).split_once('=');
        let scale =
            parts.and_then(|(name, n)| Some(Self { service: name.into(), replicas: n.parse().ok()? }));
        scale
            .filter(|scale| scale.replicas <= 50)
            .ok_or("write NAME=N, N from 0 to 50, as in `cargo hops service scale vipservice=3`")
    }
}

/// Removes the stack's name, so that `hops_vipservice`, the service's name on Docker Swarm, works here, too.
fn service_name(name: &str) -> Result<String, Infallible> {
    Ok(name.strip_prefix("hops_").unwrap_or(name).to_owned())
}

/// Returns the parser of a name and a value with `=` between them. Its error has the form.
fn pair<T: FromStr>(form: &'static str) -> impl Fn(&str) -> Result<(String, T), String> + Clone {
    move |text| {
        let parts = text.split_once('=').filter(|(name, _)| !name.is_empty());
        let pair = parts.and_then(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
        pair.ok_or_else(|| format!("write {form}"))
    }
}

/// Returns the parser of a number in this range. Its error has the range and the example.
fn number<T>(
    range: RangeInclusive<T>,
    example: &'static str,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync
where
    T: FromStr + PartialOrd + fmt::Display + Clone + Send + Sync,
{
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        let (least, most) = (range.start(), range.end());
        number.ok_or_else(|| format!("write a number from {least} to {most}, as in `{example}`"))
    }
}

/// Parses a time as Docker's `--since` does: a duration before now, or a date, which is local without a zone.
fn since(text: &str) -> Result<Timestamp, String> {
    let ago = text.parse::<SignedDuration>().ok().filter(|ago| !ago.is_negative());
    let ago = ago.and_then(|ago| Timestamp::now().checked_sub(ago).ok());
    let local = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::system()).ok().map(|at| at.timestamp());
    let found = ago.or_else(|| text.parse().ok()).or_else(local);
    found.ok_or_else(|| {
        "write a time, as in `cargo hops service logs --since 5m` or `--since 2026-11-20T14:47:38Z`"
            .to_owned()
    })
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
    if let Some(advice) = arguments.get(1).and_then(|word| service_verb_advice(word.to_str()?)) {
        return Err(Failure::Usage(advice));
    }
    match CommandLine::try_parse_from(arguments) {
        Ok(CommandLine { verb, swarm: true, .. })
            if !matches!(verb, Verb::Live { .. } | Verb::Queues { broker: None, .. }) =>
        {
            Err(Failure::Usage(
                "--swarm is for `cargo hops --swarm live` and `queues`; ./deploy.sh has the other commands \
                 for the stack"
                    .into(),
            ))
        }
        Ok(command_line) => Ok(Some(command_line)),
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
