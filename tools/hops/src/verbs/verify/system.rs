//! System that is verified: that of this checkout, the stack on Docker Swarm, or one of which only the addresses are known.

use std::time::Duration;

use crate::{
    cli::{TaskName, Verify},
    failure::{Failure, Result},
    project::Project,
    swarm::{Management, NUMBERS_LAG, Stack},
    verbs::{
        Target, client,
        queues::{BrokerAddress, broker_address},
        require_up,
    },
};

/// System whose reads are matched with its offers.
#[derive(Debug)]
pub(super) struct System<'a> {
    /// URL of the accountservice.
    pub account: String,
    /// URL of the vipservice.
    pub vip: String,
    /// `None` for a system of which only the addresses are known.
    target: Option<Target<'a>>,
    /// Stack in which a task is killed if nothing else is known.
    stack: Stack,
    broker: Option<Broker>,
}

/// Broker whose messages are counted.
#[derive(Debug)]
enum Broker {
    Address(BrokerAddress),
    OfStack(Management),
}

impl<'a> System<'a> {
    /// Finds the system that the options mean, and checks that its tasks to kill and to freeze run.
    pub(super) async fn find(
        project: Option<&'a Project>,
        is_swarm: bool,
        options: &Verify,
    ) -> Result<Self, Failure> {
        let stack = project.map_or_else(Stack::default, Stack::of);
        let trimmed = |url: &str| url.trim_end_matches('/').to_owned();
        let (account, vip, target) = match (&options.account_url, &options.vip_url, project) {
            (Some(account), Some(vip), _) => (trimmed(account), trimmed(vip), None),
            (None, None, Some(project)) => {
                if !is_swarm {
                    require_up(project).await?;
                }
                let target = Target::find(project, is_swarm).await?;
                (target.address("accountservice")?, target.address("vipservice")?, Some(target))
            }
            _ => return Err(Failure::Usage("give both, --account-url and --vip-url".into())),
        };
        if let Some(target) = &target {
            for task in options.kill.iter().chain(&options.freeze) {
                target.must_run(task).await?;
            }
        }
        // The broker of another deployment is known only if it was given.
        let broker = match (&target, options.broker.as_deref()) {
            (Some(Target::Swarm { stack, .. }), _) => Some(Broker::OfStack(Management::new(stack.clone()))),
            (None, None) => None,
            (target, url) => {
                let project = project.filter(|_| target.is_some());
                Some(Broker::Address(broker_address(project, url).await?))
            }
        };
        Ok(Self { account, vip, target, stack, broker })
    }

    /// Returns the beginning of a client for the addresses.
    pub(super) fn client(&self) -> reqwest::ClientBuilder {
        if self.target.is_none() { reqwest::Client::builder().no_proxy() } else { client() }
    }

    /// Returns the beginning of a command for this system.
    pub(super) fn command(&self) -> &'static str {
        self.target.as_ref().map_or("cargo hops", Target::command)
    }

    /// Has the supervisor kill the task, or Docker if the system is a stack on a swarm.
    pub(super) async fn kill(&self, task: &TaskName) -> Result<()> {
        match &self.target {
            Some(target) => target.kill(task).await,
            None => self.stack.kill(&task.to_string()).await.map(drop),
        }
    }

    /// Counts the ready messages of a queue; `None` if the broker is not known or cannot be reached.
    pub(super) async fn ready(&self, queue: &str) -> Option<u32> {
        match self.broker.as_ref()? {
            Broker::Address(address) => Some(address.ready(queue).await.ok()?.unwrap_or(0)),
            Broker::OfStack(management) => management.ready(queue).await.ok(),
        }
    }

    /// Returns true if [`ready`](Self::ready) can count.
    pub(super) fn has_broker(&self) -> bool {
        self.broker.is_some()
    }

    /// Returns the time by which the counts lag behind.
    pub(super) fn lag(&self) -> Duration {
        if matches!(self.broker, Some(Broker::OfStack(_))) { NUMBERS_LAG } else { Duration::ZERO }
    }
}
