//! Arguments of each verb.

use clap::Subcommand;
use jiff::Timestamp;

use super::values::{Scale, TaskName, number, pair, service_name, since};
use crate::broker::WORK_QUEUE;

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
        /// Service or task; all if none is named, but of a stack only those of this repository
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
