//! Brokers for tests: [`SharedBroker`], where every test has a virtual host of its own, and [`PrivateBroker`], which one test
//! may kill, freeze and starve; each is RabbitMQ or devbroker, as the environment says.
//!
//! A missing broker fails the test: nothing is skipped.

mod product;
mod vhost;
mod private;
mod container;
mod dev;

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    sync::{Mutex, PoisonError},
};

use crate::environment;

pub use self::private::PrivateBroker;
pub use self::product::Product;
pub use self::vhost::{StoredMessage, Vhost};
pub use self::{
    container::{Container, Shortage},
    dev::DevBroker,
};

/// The broker that all tests share: the one that `HOPS_BROKER` and `HOPS_BROKER_ADMIN` name, or else a devbroker of this process.
#[derive(Debug, Clone)]
pub struct SharedBroker {
    amqp: String,
    admin: String,
    product: Product,
}

impl SharedBroker {
    /// The broker of this run; panics when none answers there.
    pub fn from_environment() -> Self {
        let [amqp, admin] = match environment::broker() {
            Some(amqp) => [amqp, environment::broker_admin()],
            None => dev::shared(),
        };
        let Some(product) = Product::at(socket_address(&amqp)) else {
            panic!("no broker at {amqp}: start one with e2e/rabbitmq.sh start");
        };
        Self { amqp, admin, product }
    }

    /// Which broker it is.
    pub fn product(&self) -> &Product {
        &self.product
    }

    /// Tells whether it is RabbitMQ; if not, prints that the running test is left out, and why.
    pub fn is_rabbitmq_for(&self, why: &str) -> bool {
        use std::io::Write as _;
        let is_rabbitmq = matches!(self.product, Product::RabbitMq { .. });
        if !is_rabbitmq {
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            // Not with `println`, which a test that passes keeps to itself.
            let _ = writeln!(std::io::stdout().lock(), "\nNOT RUN on devbroker: {test}: {why}");
        }
        is_rabbitmq
    }

    /// A new virtual host, named after the running test and deleted when it is dropped.
    pub async fn vhost(&self) -> Vhost {
        let test = std::thread::current().name().unwrap_or("test").replace("::", ".");
        let id = uuid::Uuid::now_v7().simple().to_string();
        let name = format!("{test}.{}", &id[20..]);
        match self.product {
            Product::DevBroker => Vhost::of_dev_broker(&self.amqp, &self.admin, &name),
            Product::RabbitMq { .. } => {
                let vhost = Vhost::owned(&self.amqp, &self.admin, &name);
                let created = vhost.create().await;
                created.unwrap_or_else(|e| panic!("{}: no virtual host can be made: {e}", self.admin));
                vhost
            }
        }
    }
}

/// A port of 127.0.0.1 that nobody listens on, below the range that outgoing connections take theirs from:
/// it is still free when a broker or a proxy comes back to it. `cargo hops` takes those of its replicas from 24,000 on.
pub fn free_port() -> u16 {
    loop {
        let port = rand::random_range(17_000..24_000);
        if is_taken(port) {
            return port;
        }
    }
}

/// Returns a number to add to fixed ports so that they are free, and none of them is a fixed port itself: whoever replaces one
/// after the other in a text would replace it twice. All of them are below the same range.
pub fn free_base(fixed: &[u16]) -> u16 {
    let highest = fixed.iter().max().copied().unwrap_or_default();
    loop {
        let base = rand::random_range(17_000..24_000) - highest;
        let is_usable = |port: &u16| !fixed.contains(&(base + port)) && is_taken(base + port);
        if fixed.iter().all(is_usable) {
            return base;
        }
    }
}

/// Takes a port that is free, until this process ends: tests of other processes, which look for ports at the same time, do not
/// find the same. Returns false if somebody has it.
fn is_taken(port: u16) -> bool {
    static TAKEN: Mutex<Vec<File>> = Mutex::new(vec![]);
    let folder = environment::target_dir().join("ports");
    let file = fs::create_dir_all(&folder).and_then(|()| File::create(folder.join(port.to_string())));
    let file = file.unwrap_or_else(|error| panic!("cannot write {}: {error}", folder.display()));
    let is_free = file.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok();
    if is_free {
        TAKEN.lock().unwrap_or_else(PoisonError::into_inner).push(file);
    }
    is_free
}

/// The socket address in an AMQP address.
fn socket_address(amqp: &str) -> SocketAddr {
    use std::net::ToSocketAddrs;
    let rest = amqp.split_once("://").map_or(amqp, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or(rest).rsplit('@').next().unwrap_or(rest);
    let mut addresses = host.to_socket_addrs().unwrap_or_else(|e| panic!("{amqp}: {e}"));
    addresses.find(SocketAddr::is_ipv4).unwrap_or_else(|| panic!("{amqp} has no IPv4 address"))
}

#[cfg(test)]
mod tests {
    use lapin::types::FieldTable;

    use super::{SharedBroker, socket_address};

    #[tokio::test]
    async fn a_vhost_of_the_shared_broker_lives_as_long_as_its_value() {
        let broker = SharedBroker::from_environment();
        let vhost = broker.vhost().await;
        vhost.declare("here", FieldTable::default()).await;
        assert_eq!(vhost.ready("here").await, Some(0));
        assert_eq!(vhost.consumers("here").await, Some(0));
        assert_eq!(vhost.ready("not here").await, None);
        assert!(vhost.messages("not here").await.is_empty());
        assert_eq!(vhost.queues().await["here"]["type"], "classic");

        let url = vhost.amqp_url();
        drop(vhost);
        if !broker.is_rabbitmq_for("a virtual host lives as long as it does") {
            return;
        }
        let properties = lapin::ConnectionProperties::default();
        lapin::Connection::connect(&url, properties).await.expect_err("the virtual host is gone");
    }

    #[test]
    fn the_socket_address_of_an_amqp_address_is_its_host_and_port() {
        for address in ["amqp://127.0.0.1:5672", "amqp://guest:guest@127.0.0.1:5672/vhost"] {
            assert_eq!(socket_address(address).to_string(), "127.0.0.1:5672");
        }
    }
}
