//! The stack `hops` of a clean clone: one for all tests of a run, which take turns.

mod janitor;

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write as _},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::PathBuf,
    process::Stdio,
    sync::OnceLock,
    time::{Duration, Instant},
};

use e2e::{
    binaries::binary,
    environment,
    http::{self, Reply},
    load::Record,
    process::Address,
    repository::root,
    sets::Difference,
    wait::{PATIENCE, until, until_true},
};
use serde_json::Value;
use tokio::{
    process::Command,
    sync::{Mutex, MutexGuard},
};

/// Images of these tests have other names than those of a person.
const IMAGES: &str = "localhost/hops-e2e";
const BROKER: &str = "localhost/hops-rabbitmq:4.3";
/// All images of ours, and what runs of them: `edge` only where the kernel has no IPVS.
pub(crate) const OURS: [&str; 4] = ["accountservice", "vipservice", "configserver", "edge"];

/// The services as they were deployed last, or nothing before that; locked by one test at a time.
static TURN: Mutex<String> = Mutex::const_new(String::new());
/// The engine's volumes before the stack was there.
static OTHER_VOLUMES: OnceLock<BTreeSet<String>> = OnceLock::new();

/// A command that was typed, with its standard output and error output.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) text: String,
}

/// The stack, for one test.
pub(crate) struct Stack {
    client: reqwest::Client,
    _turn: MutexGuard<'static, String>,
}

impl Stack {
    /// Deployed and ready, with the replicas of docker-compose.yml.
    pub(crate) async fn turn() -> Self {
        let mut deployed = TURN.lock().await;
        let is_first = deployed.is_empty();
        if is_first {
            janitor::hire().await;
            clone().await;
            let _ = OTHER_VOLUMES.set(all_volumes().await);
            typed("./deploy.sh", &["build", "--local"]).await.succeeded();
        }
        // A test that changes nothing needs no deployment after it.
        if is_first || services().await != *deployed {
            let started = Instant::now();
            typed("./deploy.sh", &[]).await.succeeded();
            print(&format!("from ./deploy.sh to all ready: {:.0} s", started.elapsed().as_secs_f32()));
            typed("./deploy.sh", &["scale", "vipservice=1"]).await.succeeded();
            *deployed = services().await;
        }
        let stack = Self { client: http::client(), _turn: deployed };
        if is_first {
            let way = if stack.ours().await.contains(&"edge") { "edge, without IPVS" } else { "IPVS" };
            print(&format!("what is tested comes in through {way}"));
        }
        stack
    }

    /// `./deploy.sh` with these words, which succeeds.
    pub(crate) async fn deploy(&self, words: &[&str]) -> String {
        typed("./deploy.sh", words).await.succeeded()
    }

    /// The same, whatever comes of it.
    pub(crate) async fn try_deploy(&self, words: &[&str]) -> Said {
        typed("./deploy.sh", words).await
    }

    /// `docker` with these words, which succeeds.
    pub(crate) async fn docker(&self, words: &[&str]) -> String {
        typed("docker", words).await.succeeded()
    }

    /// A line in a shell, with the variables that `deploy.sh` gets; it succeeds.
    pub(crate) async fn shell(&self, line: &str) -> String {
        typed("bash", &["-euo", "pipefail", "-c", line]).await.succeeded()
    }

    /// Returns the running containers of the stack.
    pub(crate) async fn ours(&self) -> Vec<&'static str> {
        let services = self.docker(&["stack", "services", "--format", "{{.Name}}", "hops"]).await;
        let runs = |name: &&str| services.lines().any(|line| line.strip_prefix("hops_") == Some(*name));
        OURS.into_iter().filter(runs).collect()
    }

    /// The images that a service's containers are of.
    pub(crate) async fn images(&self, service: &str) -> BTreeSet<String> {
        let mut images = BTreeSet::new();
        for container in self.containers(service).await {
            images.insert(self.inspect(&container).await["Config"]["Image"].as_str().unwrap().to_owned());
        }
        images
    }

    /// The engine's volumes that were not there before the stack.
    pub(crate) async fn volumes(&self) -> BTreeSet<String> {
        all_volumes().await.difference(OTHER_VOLUMES.get().unwrap()).cloned().collect()
    }

    /// The broker's image.
    pub(crate) async fn broker(&self) -> String {
        self.images("rabbitmq").await.pop_first().unwrap()
    }

    /// The ids of the running containers of a service.
    pub(crate) async fn containers(&self, service: &str) -> Vec<String> {
        let label = format!("label=com.docker.swarm.service.name=hops_{service}");
        let ids = self.docker(&["ps", "--quiet", "--no-trunc", "--filter", &label]).await;
        ids.lines().map(str::to_owned).collect()
    }

    /// Returns what Docker knows of a container.
    pub(crate) async fn inspect(&self, container: &str) -> Value {
        let known: Value = serde_json::from_str(&self.docker(&["inspect", container]).await).unwrap();
        known[0].clone()
    }

    /// `kill -9` of a container's process; the swarm starts another one.
    pub(crate) async fn kill9(&self, container: &str) {
        self.docker(&["kill", "--signal", "KILL", container]).await;
    }

    /// Waits until a service has that many tasks that are ready, of which none is `gone`.
    pub(crate) async fn until_ready(&self, service: &str, count: usize, gone: &[String]) {
        until_true(&format!("{count} of {service} are ready"), 2 * PATIENCE, async || {
            let containers = self.containers(service).await;
            let mut ready = 0;
            for container in containers.iter().filter(|container| !gone.contains(container)) {
                let verb = format!("/{service}");
                let asked = typed("docker", &["exec", container, &verb, "healthcheck", "--ready"]).await;
                ready += usize::from(asked.code == Some(0));
            }
            ready == count && containers.len() == count
        })
        .await;
    }

    /// The accountservice, as everybody outside reaches it.
    pub(crate) fn accounts(&self) -> Address {
        Address::at(6767)
    }

    /// An answer of the accountservice, or of the vipservice where the path is one of its own.
    pub(crate) async fn get(&self, path: &str) -> Reply {
        let is_vip = path.starts_with("/offers") || path.starts_with("/dead-letters");
        let port = if is_vip { 6868 } else { 6767 };
        Reply::of(self.client.get(Address::at(port).url(path))).await.unwrap()
    }

    /// The offers after a place in the stream.
    pub(crate) async fn offers(&self, after: Option<u64>) -> Vec<Value> {
        let (mut offers, mut after) = (vec![], after);
        loop {
            let from = after.map_or_else(String::new, |after| format!("&after={after}"));
            let reply = self.get(&format!("/offers?limit=1000{from}")).await;
            if reply.status == 503 {
                // Not replayed yet.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            let page = reply.json();
            offers.extend(page["offers"].as_array().unwrap().clone());
            match page["next"].as_u64() {
                Some(next) => after = Some(next),
                None => return offers,
            }
        }
    }

    /// The last place in the stream.
    pub(crate) async fn mark(&self) -> Option<u64> {
        self.offers(None).await.last().and_then(|offer| offer["offset"].as_u64())
    }

    /// Holds the promise over what was read since `mark`, and finds that no message was given up.
    pub(crate) async fn assert_promise(&self, record: &Record, mark: Option<u64>) {
        let difference = async || {
            let offers = self.offers(mark).await;
            let ids: Vec<_> = offers.iter().map(|offer| offer["requestId"].as_str().unwrap()).collect();
            Difference::between(record, ids)
        };
        until("every answered read has its offer", PATIENCE, async || {
            difference().await.missing.is_empty().then_some(())
        })
        .await;
        // What is still on its way could become a second offer.
        until_true("vip_queue is empty", PATIENCE, async || self.messages("vip_queue").await == 0).await;
        assert_eq!(difference().await, Difference::default());
        assert_eq!(self.get("/dead-letters").await.json()["deadLetters"], Value::Array(vec![]));
    }

    async fn messages(&self, queue: &str) -> u64 {
        let broker = &self.containers("rabbitmq").await[0];
        let said =
            self.docker(&["exec", broker, "rabbitmqctl", "--quiet", "list_queues", "name", "messages"]).await;
        let line = said.lines().find_map(|line| line.strip_prefix(&format!("{queue}\t")));
        line.and_then(|count| count.trim().parse().ok()).unwrap_or_else(|| panic!("{queue}: {said}"))
    }

    /// A secret of the stack.
    pub(crate) fn secret(&self, name: &str) -> String {
        fs::read_to_string(folder().join(".secrets").join(name)).unwrap()
    }

    /// Returns the permissions of its file.
    pub(crate) fn mode_of_secret(&self, name: &str) -> u32 {
        fs::metadata(folder().join(".secrets").join(name)).unwrap().permissions().mode() & 0o777
    }

    /// Changes a file of the clone.
    pub(crate) fn edit(&self, path: &str, edit: impl FnOnce(String) -> String) {
        let path = folder().join(path);
        fs::write(&path, edit(fs::read_to_string(&path).unwrap())).unwrap();
    }

    /// Types a page in the clone.
    pub(crate) async fn play(&self, page: &str) {
        let variables = janitor::variables();
        let variables: Vec<_> = variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        e2e::page::play_in(&folder(), &variables, page).await;
    }

    /// The ids of all tasks that are to run.
    pub(crate) async fn tasks(&self) -> BTreeSet<String> {
        let words = ["stack", "ps", "--quiet", "--no-trunc", "--filter", "desired-state=running", "hops"];
        self.docker(&words).await.lines().map(str::to_owned).collect()
    }
}

impl Said {
    fn succeeded(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.text);
        self.text
    }
}

/// A figure, which is seen without `--nocapture` too.
pub(crate) fn print(figure: &str) {
    let _ = writeln!(io::stdout().lock(), "\n{figure}");
}

/// A command in the clone; it ends with this test, whatever becomes of it.
async fn typed(program: &str, words: &[&str]) -> Said {
    let mut command = Command::new(program);
    command.args(words).current_dir(folder()).stdin(Stdio::null()).kill_on_drop(true);
    for (name, value) in janitor::variables() {
        command.env(name, value);
    }
    let output = tokio::time::timeout(Duration::from_secs(900), command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{program} {words:?} does not end")).unwrap();
    let text = [output.stdout, output.stderr].concat();
    Said { code: output.status.code(), text: String::from_utf8_lossy(&text).into_owned() }
}

/// Specifications of the stack's services, with the number of tasks of each that run.
async fn services() -> String {
    let script = "docker stack services --format '{{.Name}} {{.Replicas}}' hops | sort && \
                  docker stack services --quiet hops | sort | xargs docker service inspect --format '{{json .Spec}}'";
    typed("bash", &["-o", "pipefail", "-c", script]).await.text
}

async fn all_volumes() -> BTreeSet<String> {
    typed("docker", &["volume", "ls", "--quiet"]).await.succeeded().lines().map(str::to_owned).collect()
}

/// Always the same folder, so that cargo knows what it has built before.
fn folder() -> PathBuf {
    environment::target_dir().join("e2e-swarm/clone")
}

/// As a fresh clone is: what is committed, and nothing else.
async fn clone() {
    fs::create_dir_all(folder()).unwrap();
    let root = root().to_str().unwrap();
    for words in [
        &["init", "--quiet"][..],
        &["fetch", "--quiet", root, "HEAD"],
        &["reset", "--quiet", "--hard", "FETCH_HEAD"],
        &["clean", "--quiet", "-fdx"],
    ] {
        typed("git", words).await.succeeded();
    }
    // As in a release archive; with cargo, the clone would be compiled once more.
    symlink(binary("hops"), folder().join("hops")).unwrap();
}
