//! One virtual host as a test sees it: its address for services, and its users and its list of queues over the management API;
//! `queues` has single queues over AMQP.

mod queues;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use lapin::{Channel, Connection, ConnectionProperties};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::time::timeout;

pub use self::queues::StoredMessage;
use super::socket_address;
use crate::{
    http::{self, Reply},
    wait::{PATIENCE, until},
};

/// No single operation of a healthy broker takes longer.
const OPERATION: Duration = Duration::from_secs(10);

/// A virtual host of a broker.
#[derive(Debug)]
pub struct Vhost {
    amqp: String,
    admin: String,
    name: String,
    kind: Kind,
    /// Users that end with it.
    users: Mutex<Vec<String>>,
}

/// The end of a virtual host, and the kind of its broker's HTTP interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// RabbitMQ's; it lives as long as its value.
    Owned,
    /// RabbitMQ's; it was there before and stays.
    Standing,
    /// devbroker's, which makes one on first use and has neither rights nor users to be given.
    Dev,
}

impl Vhost {
    /// A virtual host that lives as long as this value.
    pub(super) fn owned(amqp: &str, admin: &str, name: &str) -> Self {
        Self::new(amqp, admin, name, Kind::Owned)
    }

    /// The default virtual host of a broker that a test has for itself.
    pub fn default_of(amqp: &str, admin: &str) -> Self {
        Self::new(amqp, admin, "/", Kind::Standing)
    }

    /// One of devbroker's, which lives as long as the broker.
    pub(super) fn of_dev_broker(amqp: &str, admin: &str, name: &str) -> Self {
        Self::new(amqp, admin, name, Kind::Dev)
    }

    fn new(amqp: &str, admin: &str, name: &str, kind: Kind) -> Self {
        Self {
            amqp: amqp.to_owned(),
            admin: admin.to_owned(),
            name: name.to_owned(),
            kind,
            users: Mutex::default(),
        }
    }

    /// Its name, as error texts have it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value of `amqp_server_url` for it.
    pub fn amqp_url(&self) -> String {
        format!("{}/{}", self.amqp, self.encoded_name())
    }

    /// The same with a user, whose password may have spaces.
    pub fn amqp_url_as(&self, user: &str, password: &str) -> String {
        let login = format!("amqp://{user}:{}@", password.replace(' ', "%20"));
        self.amqp_url().replacen("amqp://", &login, 1)
    }

    /// The same virtual host behind another port of this machine: a proxy's, or one where nobody listens.
    pub fn amqp_url_at(&self, port: u16) -> String {
        format!("amqp://127.0.0.1:{port}/{}", self.encoded_name())
    }

    /// Where the broker itself listens: the target for a proxy.
    pub fn address(&self) -> SocketAddr {
        socket_address(&self.amqp)
    }

    /// Creates it, with all rights for the user `guest`.
    pub(super) async fn create(&self) -> reqwest::Result<()> {
        self.put(&format!("vhosts/{}", self.encoded_name()), &json!({})).await?;
        self.let_in("guest").await
    }

    /// A user's name that nobody else's test has; there is no such user until [`Self::create_user`].
    pub fn user(&self) -> String {
        self.encoded_name()
    }

    /// Creates that user and lets it in.
    pub async fn create_user(&self, password: &str) {
        self.change_password(password).await;
        self.give_permissions().await;
    }

    /// Creates a user of this name with these permissions: patterns of names that it may `configure`, `write` and `read`.
    pub async fn create_user_with(&self, user: &str, password: &str, permissions: &Value) {
        assert_ne!(self.kind, Kind::Dev, "devbroker has no users: this test is RabbitMQ's");
        let created = self.put(&format!("users/{user}"), &json!({"password": password, "tags": ""})).await;
        created.expect("a user can be created");
        self.users.lock().unwrap_or_else(PoisonError::into_inner).push(user.to_owned());
        let rights = json!({
            "configure": permissions["configure"], "write": permissions["write"], "read": permissions["read"],
        });
        let given = self.put(&format!("permissions/{}/{user}", self.encoded_name()), &rights).await;
        given.expect("a user can be given rights");
    }

    /// Gives that user another password; who is connected stays connected.
    pub async fn change_password(&self, password: &str) {
        assert_ne!(self.kind, Kind::Dev, "devbroker has no users: this test is RabbitMQ's");
        let user = json!({"password": password, "tags": ""});
        let changed = self.put(&format!("users/{}", self.user()), &user).await;
        changed.expect("a user can be created and changed");
    }

    /// Switches its firehose, which then publishes to the exchange `amq.rabbitmq.trace`; both brokers have the same request for it.
    pub async fn trace(&self, is_on: bool) {
        let request = admin(&self.admin, &Method::PUT, &format!("vhosts/{}", self.encoded_name()));
        let reply = Reply::of(request.json(&json!({ "tracing": is_on }))).await;
        let reply = reply.expect("the management API answers");
        assert_eq!(reply.status, 204, "{}", reply.text);
    }

    /// Lets that user do everything here.
    pub async fn give_permissions(&self) {
        let rights = self.let_in(&self.user()).await;
        rights.expect("a user can be given rights");
    }

    /// Lets that user connect and do nothing.
    pub async fn revoke_permissions(&self) {
        let rights = self.let_do(&self.user(), "^$").await;
        rights.expect("a user's rights can be taken");
    }

    async fn let_in(&self, user: &str) -> reqwest::Result<()> {
        self.let_do(user, ".*").await
    }

    async fn let_do(&self, user: &str, names: &str) -> reqwest::Result<()> {
        let rights = json!({"configure": names, "write": names, "read": names});
        self.put(&format!("permissions/{}/{user}", self.encoded_name()), &rights).await
    }

    async fn put(&self, path: &str, body: &Value) -> reqwest::Result<()> {
        let reply = self.admin(&Method::PUT, path).json(body).send().await?;
        reply.error_for_status().map(drop)
    }

    /// Tells whether nothing listens at its broker's address any more.
    pub(super) async fn is_gone(&self) -> bool {
        tokio::net::TcpStream::connect(self.address()).await.is_err()
    }

    /// Waits until AMQP and the management API both answer.
    pub async fn until_ready(&self) {
        until("the broker answers", PATIENCE, async || {
            let connection = self.try_connect().await?;
            let _ = timeout(OPERATION, connection.close(200, "ready".into())).await;
            let question = if self.kind == Kind::Dev { "status" } else { "overview" };
            let overview = Reply::of(self.admin(&Method::GET, question)).await.ok()?;
            (overview.status == 200).then_some(())
        })
        .await;
    }

    /// A connection of the test's own, with a channel; the channel lives as long as the connection.
    pub async fn channel(&self) -> (Connection, Channel) {
        let connection =
            until("a connection to the broker", PATIENCE, async || self.try_connect().await).await;
        let channel = timeout(OPERATION, connection.create_channel()).await;
        (connection, channel.expect("a channel opens in time").expect("a channel opens"))
    }

    /// The same as another user.
    pub async fn channel_as(&self, user: &str, password: &str) -> (Connection, Channel) {
        let url = self.amqp_url_as(user, password);
        let connection = Connection::connect(&url, ConnectionProperties::default());
        let connection = timeout(OPERATION, connection).await.expect("the broker answers in time");
        let connection = connection.expect("the user may connect");
        let channel = timeout(OPERATION, connection.create_channel()).await;
        (connection, channel.expect("a channel opens in time").expect("a channel opens"))
    }

    /// The queues with what the management API says of them, by name.
    pub async fn queues(&self) -> BTreeMap<String, Value> {
        // devbroker has one list for all, with the virtual host in each row.
        let path =
            if self.kind == Kind::Dev { "queues".into() } else { format!("queues/{}", self.encoded_name()) };
        let reply = Reply::of(self.admin(&Method::GET, &path)).await;
        let queues = reply.expect("the management API answers").json();
        let queues = queues.as_array().expect("a list of queues").iter();
        let ours = queues.filter(|queue| queue["vhost"] == self.name);
        ours.map(|queue| (queue["name"].as_str().unwrap_or_default().to_owned(), queue.clone())).collect()
    }

    /// A request to the management API.
    fn admin(&self, method: &Method, path: &str) -> RequestBuilder {
        match self.kind {
            Kind::Dev => http::client().request(method.clone(), format!("{}/{path}", self.admin)),
            Kind::Owned | Kind::Standing => admin(&self.admin, method, path),
        }
    }

    async fn try_connect(&self) -> Option<Connection> {
        let properties = ConnectionProperties::default().with_connection_name("e2e".into());
        timeout(OPERATION, Connection::connect(&self.amqp_url(), properties)).await.ok()?.ok()
    }

    fn encoded_name(&self) -> String {
        self.name.replace('/', "%2F")
    }
}

fn admin(base: &str, method: &Method, path: &str) -> RequestBuilder {
    http::client().request(method.clone(), format!("{base}/api/{path}")).basic_auth("guest", Some("guest"))
}

impl Drop for Vhost {
    /// With its users. On a thread of its own, since a test's runtime cannot be waited for from inside.
    fn drop(&mut self) {
        if self.kind != Kind::Owned {
            return;
        }
        let (base, name) = (self.admin.clone(), self.encoded_name());
        let users = std::mem::take(&mut *self.users.lock().unwrap_or_else(PoisonError::into_inner));
        let deletion = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let delete = async {
                let users = users.iter().chain([&name]).map(|user| format!("users/{user}"));
                for path in users.chain([format!("vhosts/{name}")]) {
                    let _ = admin(&base, &Method::DELETE, &path).send().await;
                }
            };
            let _ = runtime.map(|runtime| runtime.block_on(delete));
        });
        let _ = deletion.join();
    }
}
