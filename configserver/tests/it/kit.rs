//! A server over a folder, and a client that sends exactly what it is told to.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use configserver::{repository::Repository, run, settings::Settings};
use hops_config::{LiveSettings, Sources};
use messaging::{BrokerStatus, LinkStatus, Message, MockMessagingClient};
use serde_json::{Map, Value};
use service::{App, Instance};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// A server whose broker takes every event.
pub(crate) struct TestServer {
    pub(crate) folder: TempDir,
    pub(crate) address: SocketAddr,
    events: Arc<Mutex<Vec<Message>>>,
    _running: JoinSet<()>,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in small letters.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl TestServer {
    /// A server with these settings over an empty folder.
    pub(crate) async fn start(settings: Map<String, Value>) -> Self {
        let variable = |(key, value): (String, Value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (format!("APP_{}", key.to_uppercase()), text)
        };
        let environment = settings.into_iter().map(variable).collect();
        let sources = Sources { environment, ..Sources::default() };
        let settings = LiveSettings::<Settings>::load(sources).await.unwrap();
        let folder = TempDir::new().unwrap();
        let repository = Repository::open(folder.path()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let events = Arc::new(Mutex::new(vec![]));
        let client = Arc::new(broker(Arc::clone(&events)));
        let mut running = JoinSet::new();
        running.spawn(async move {
            let instance = Instance::named(Some("test"), Path::new("unused")).unwrap();
            let app = App::new(settings, instance, listener, CancellationToken::new());
            run(app, repository, client).await.unwrap();
        });
        let server = Self { folder, address, events, _running: running };
        server.started().await;
        server
    }

    /// Waits for the event that tells of the start. It stays among the events.
    async fn started(&self) {
        let told = async {
            while self.events.lock().unwrap().is_empty() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(20), told).await.expect("it tells of its start");
    }

    /// Writes a file of the folder, and the folders above it.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Empties the folder.
    pub(crate) fn clear(&self) {
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            remove(&entry.unwrap().path());
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], None).await
    }

    /// Asks until this is the answer's status: what health says is looked up once a second.
    pub(crate) async fn until(&self, path: &str, status: u16) {
        let enough = async {
            while self.get(path).await.status != status {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(20), enough).await.unwrap_or_else(|_| panic!("{path} is not {status}"));
    }

    /// Sends a request, and reads the answer to its end.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Answer {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        let length = body.map(|body| format!("content-length: {}\r\n", body.len())).unwrap_or_default();
        let request = format!("{request}{length}\r\n{}", body.unwrap_or_default());
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![];
        stream.read_to_end(&mut answer).await.unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_lowercase(), value.to_owned())
        };
        Answer { status, headers: lines.map(header).collect(), body: answer[end + 4..].to_vec() }
    }

    /// The events since the last look, as JSON.
    pub(crate) fn events(&self) -> Vec<Value> {
        let events = std::mem::take(&mut *self.events.lock().unwrap());
        events.iter().map(|event| serde_json::from_slice(&event.body).unwrap()).collect()
    }
}

fn remove(path: &Path) {
    match path.is_dir() {
        true => std::fs::remove_dir_all(path).unwrap(),
        false => std::fs::remove_file(path).unwrap(),
    }
}

fn broker(events: Arc<Mutex<Vec<Message>>>) -> MockMessagingClient {
    let mut client = MockMessagingClient::new();
    client.expect_connect().return_const(());
    client.expect_status().returning(|| {
        let publishing = LinkStatus::Connecting(Some("nobody is there".into()));
        BrokerStatus { publishing, consuming: LinkStatus::Up }
    });
    client.expect_broadcast().returning(move |_, _, message| {
        events.lock().unwrap().push(message);
        Ok(())
    });
    client
}
