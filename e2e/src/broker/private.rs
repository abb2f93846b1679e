//! A broker that one test has for itself, of the kind that the run's tests share: it may be killed, frozen, starved and restarted.

use super::{
    Vhost,
    container::{Container, Shortage},
    dev::DevBroker,
};
use crate::environment;

/// A RabbitMQ in a container, or a devbroker; it ends when it is dropped, and when the test's process dies.
#[derive(Debug)]
pub enum PrivateBroker {
    /// RabbitMQ.
    RabbitMq(Container),
    /// devbroker.
    Dev(DevBroker),
}

/// The same on either kind.
macro_rules! either {
    ($self:expr, $broker:ident => $what:expr) => {
        match $self {
            Self::RabbitMq($broker) => $what,
            Self::Dev($broker) => $what,
        }
    };
}

impl PrivateBroker {
    /// A new broker that accepts connections.
    pub async fn start() -> Self {
        let mut broker = Self::absent().await;
        broker.appear().await;
        broker.vhost().until_ready().await;
        broker
    }

    /// A RabbitMQ with further lines of `rabbitmq.conf`, whatever the others share: ask
    /// [`SharedBroker::is_rabbitmq_for`](super::SharedBroker::is_rabbitmq_for) before.
    pub async fn rabbitmq_with(configuration: &str) -> Self {
        Self::RabbitMq(Container::start_with(configuration).await)
    }

    /// A RabbitMQ with these files in `/etc/rabbitmq/conf.d`, which need not accept connections yet, or without TLS; ask as for
    /// [`Self::rabbitmq_with`].
    pub async fn rabbitmq_with_files(files: &[(&str, String)]) -> Self {
        Self::RabbitMq(Container::start_with_files(files).await)
    }

    /// A broker that is not there yet: its address is known and nobody listens on it.
    pub async fn absent() -> Self {
        match environment::broker() {
            Some(_) => Self::RabbitMq(Container::absent().await),
            None => Self::Dev(DevBroker::absent().await),
        }
    }

    /// Starts a broker that was absent; it may take some seconds more until it accepts connections.
    pub async fn appear(&mut self) {
        either!(self, broker => broker.appear().await);
    }

    /// Its default virtual host.
    pub fn vhost(&self) -> Vhost {
        either!(self, broker => broker.vhost())
    }

    /// `kill -9`: nothing is flushed, nothing is said.
    pub async fn kill9(&self) {
        either!(self, broker => broker.kill9().await);
    }

    /// Starts it again after [`Self::kill9`], with its data, on the same ports, and waits until it accepts connections.
    pub async fn restart(&self) {
        either!(self, broker => broker.restart().await);
    }

    /// Stops all its processes where they are; connections stay open and silent.
    pub async fn freeze(&self) {
        either!(self, broker => broker.freeze().await);
    }

    /// Undoes [`Self::freeze`].
    pub async fn thaw(&self) {
        either!(self, broker => broker.thaw().await);
    }

    /// Stops it in good order: the port is closed, connections end.
    pub async fn stop_application(&self) {
        either!(self, broker => broker.stop_application().await);
    }

    /// Undoes [`Self::stop_application`], and waits until it accepts connections.
    pub async fn start_application(&self) {
        either!(self, broker => broker.start_application().await);
    }

    /// Raises the alarm; devbroker has one alarm for all shortages.
    pub async fn starve(&self, of: Shortage) {
        match self {
            Self::RabbitMq(broker) => broker.starve(of).await,
            Self::Dev(broker) => broker.starve().await,
        }
    }

    /// Undoes [`Self::starve`].
    pub async fn feed(&self, with: Shortage) {
        match self {
            Self::RabbitMq(broker) => broker.feed(with).await,
            Self::Dev(broker) => broker.feed().await,
        }
    }

    /// Closes all connections, as an operator does; clients are told `reason`.
    pub async fn close_all_connections(&self, reason: &str) {
        either!(self, broker => broker.close_all_connections(reason).await);
    }
}
