//! The README's quick start, run as it is printed.
//!
//! Every block marked `console` is run, top to bottom: a line that begins with `$ ` is typed, `^C` is Ctrl-C in the terminal of the
//! instance that the next line begins with, and what follows must come out. What is printed without a command are lines of the logs.
//!
//! What is run differs from what is typed in this, and what comes out is written back:
//! - The broker is a container with a name and ports of its own (of the image `HOPS_RABBITMQ_IMAGE`, if there is one), the services
//!   listen on free ports and keep their data in a folder of their own.
//! - `cargo run -p X -- ARGS` starts the X that the test kit has built, with text logs as on a terminal; `outbox` and `dead-letters` come back, a
//!   service stays.
//! - `pkill -9 -n vipservice` kills the newest vipservice of this page, and no other.
//! - A question - a `curl` that reads no account, `dead-letters list` - is asked again until the answer is as printed, since offers take a moment.
//!
//! What comes out is as printed when both are the same after this: `...` stands for anything, on a line of its own for any lines; ids
//! (UUIDs), instants and free ports are any; blanks may be more or fewer; of the numbers by replica only the sum counts.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use e2e::{
    binaries::binary,
    broker::free_port,
    environment,
    wait::{PATIENCE, until},
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{process, time::timeout};

use crate::tidy::{read, root};

/// For a command that comes back: `start` may have to fetch an image.
const COMMAND: Duration = Duration::from_secs(180);
const KILL_NEWEST: &str = "pkill -9 -n vipservice";

#[tokio::test]
async fn the_quick_start_of_the_readme_does_what_it_prints() {
    let steps = steps(&read("README.md"));
    assert!(steps.len() > 15, "{steps:#?}");
    let mut page = Page::new();
    for step in &steps {
        page.play(step).await;
    }
    // As the page says: Ctrl-C ends what still runs.
    for running in page.running.iter_mut().filter(|running| !running.is_killed) {
        running.signal(Signal::INT);
        assert!(running.ended().await.success(), "{}", running.program);
    }
}

/// One thing that the reader types and sees.
#[derive(Debug, Default)]
struct Step {
    /// Empty where lines of the logs are shown.
    typed: String,
    printed: Vec<String>,
}

fn steps(page: &str) -> Vec<Step> {
    let mut steps = vec![];
    for block in page.split("```console\n").skip(1) {
        steps.push(Step::default());
        for line in block.split("```").next().unwrap().lines() {
            let typed = line.strip_prefix("$ ").or((line == "^C").then_some(line));
            match (typed, steps.last_mut()) {
                (Some(typed), _) => steps.push(Step { typed: typed.into(), printed: vec![] }),
                (None, Some(step)) => step.printed.push(line.into()),
                (None, None) => {}
            }
        }
    }
    steps.retain(|step| !step.typed.is_empty() || !step.printed.is_empty());
    steps
}

/// The page's own broker, ports, data and processes.
struct Page {
    container: Container,
    /// What is printed, and what is there in its place.
    places: Vec<(String, String)>,
    data: TempDir,
    running: Vec<Running>,
    /// What came out of the last command, for a failure.
    last: Vec<String>,
}

impl Page {
    fn new() -> Self {
        let (container, data) = (Container::new(), tempfile::tempdir().unwrap());
        let folder = data.path().display().to_string();
        let mut places =
            vec![("hops-rabbitmq".to_owned(), container.name.clone()), (".hops/data".into(), folder)];
        for (printed, real) in
            [(6767, free_port()), (6868, free_port()), (5672, free_port()), (15672, free_port())]
        {
            for before in ["localhost:", "127.0.0.1:", "port="] {
                places.push((format!("{before}{printed}"), format!("{before}{real}")));
            }
        }
        Self { container, places, data, running: vec![], last: vec![] }
    }

    async fn play(&mut self, step: &Step) {
        let wanted = format!("{:?} prints\n{}\n", step.typed, step.printed.join("\n"));
        let typed = step.typed.as_str();
        if typed.is_empty() {
            for line in &step.printed {
                let log = &self.instance(line).log;
                let is_there =
                    async || came(log, &self.places).iter().any(|came| is_line(line, came)).then_some(());
                until(&format!("{line:?} in the log"), PATIENCE, is_there).await;
            }
        } else if typed == "^C" {
            let running = self.instance(&step.printed[0]);
            let before = running.log.lock().unwrap().len();
            running.signal(Signal::INT);
            let index = self.running.iter().position(|other| std::ptr::eq(other, running)).unwrap();
            let mut running = self.running.remove(index);
            assert!(running.ended().await.success(), "{wanted}");
            let came = came(&running.log, &self.places).split_off(before);
            // A line or two of its own may come before the signal does.
            self.last = came.into_iter().skip_while(|line| !is_line(&step.printed[0], line)).collect();
            assert!(is_as_printed(&step.printed, &self.last), "{wanted}");
        } else if let Some(command) = typed.strip_prefix("cargo run -p ") {
            if command.contains(" outbox ") || command.contains(" dead-letters ") {
                let is_question = command.ends_with(" list");
                until(&wanted, PATIENCE, async || {
                    self.come_back(command, &wanted).await;
                    let is_right = is_as_printed(&step.printed, &self.last);
                    assert!(is_right || is_question, "{wanted}");
                    is_right.then_some(())
                })
                .await;
            } else {
                self.start(command, step, &wanted).await;
            }
        } else if typed.starts_with("curl ") && !typed.contains("/accounts/") {
            until(&wanted, PATIENCE, async || {
                self.run(typed).await;
                is_as_printed(&step.printed, &self.last).then_some(())
            })
            .await;
        } else {
            self.run(typed).await;
            assert!(is_as_printed(&step.printed, &self.last), "{wanted}");
        }
    }

    /// A verb of a binary, which comes back.
    async fn come_back(&mut self, command: &str, wanted: &str) {
        let mut running = self.spawn(command);
        let status = running.ended().await;
        self.last = came(&running.log, &self.places);
        assert!(status.success(), "{wanted}{status}");
    }

    /// Starts a binary and waits until it has printed what it is to print.
    async fn start(&mut self, command: &str, step: &Step, wanted: &str) {
        let running = self.spawn(command);
        let so_far = [step.printed.clone(), vec!["...".into()]].concat();
        self.running.push(running);
        let log = &self.running.last().unwrap().log;
        until(wanted, PATIENCE, async || is_as_printed(&so_far, &came(log, &self.places)).then_some(()))
            .await;
    }

    fn spawn(&self, command: &str) -> Running {
        let (program, arguments) = command.split_once(" -- ").unwrap();
        let mut command = Command::new(binary(program));
        for name in environment::settings_of_services() {
            command.env_remove(name);
        }
        let port = if program == "accountservice" { "6767" } else { "6868" };
        command
            .args(arguments.split_whitespace())
            .current_dir(root())
            .env("APP_LOG_FORMAT", "text")
            .env("APP_DATA_DIR", self.data.path())
            .env("APP_SERVER_PORT", self.real(&format!("port={port}")).trim_start_matches("port="))
            .env("APP_AMQP_SERVER_URL", self.real("amqp://localhost:5672"));
        Running::start(program, command)
    }

    /// Runs a command that comes back, in a shell.
    async fn run(&mut self, typed: &str) {
        let mut real = self.real(typed);
        if real.contains(KILL_NEWEST) {
            let newest =
                self.running.iter_mut().rev().find(|running| running.program == "vipservice").unwrap();
            newest.is_killed = true;
            real = real.replace(KILL_NEWEST, &format!("kill -9 {}", newest.child.id()));
        }
        if let (true, Some(image)) = (real.ends_with("rabbitmq.sh start"), environment::rabbitmq_image()) {
            real = format!("{real} {image}");
        }
        let port = |printed: &str| self.real(printed).trim_start_matches("port=").to_owned();
        let mut command = process::Command::new("bash");
        command
            .args(["-c", &real])
            .current_dir(root())
            .env("HOPS_BROKER_NAME", &self.container.name)
            .env("HOPS_BROKER_PORT", port("port=5672"))
            .env("HOPS_BROKER_ADMIN_PORT", port("port=15672"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = timeout(COMMAND, command.output()).await.expect("a command comes back").unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{real}: {}\n{said}", output.status);
        let lines = String::from_utf8(output.stdout).unwrap();
        // The script says how to use ports that are not the usual ones.
        let lines = lines.lines().filter(|line| !line.starts_with("for the tests: export "));
        self.last = lines.map(|line| as_on_the_page(line, &self.places)).collect();
    }

    fn real(&self, typed: &str) -> String {
        self.places.iter().fold(typed.to_owned(), |text, (printed, real)| text.replace(printed, real))
    }

    /// The process whose instance the line begins with.
    fn instance(&self, line: &str) -> &Running {
        let is_its = |running: &&Running| {
            running.log.lock().unwrap().iter().any(|l| l.split(' ').next() == line.split(' ').next())
        };
        self.running.iter().find(is_its).unwrap_or_else(|| panic!("nobody is the instance of {line:?}"))
    }
}

impl Drop for Page {
    #[expect(clippy::print_stderr, reason = "a failed test shows what came out")]
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the last command printed\n{}", self.last.join("\n"));
            for running in &self.running {
                let log = came(&running.log, &self.places);
                eprintln!("--- {}\n{}", running.program, log[log.len().saturating_sub(40)..].join("\n"));
            }
        }
    }
}

type Lines = Arc<Mutex<Vec<String>>>;

/// A process that the page started; killed when dropped.
struct Running {
    program: String,
    child: Child,
    log: Lines,
    readers: Vec<JoinHandle<()>>,
    is_killed: bool,
}

impl Running {
    fn start(program: &str, mut command: Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Lines::default();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let readers = vec![reader(&log, out), reader(&log, err)];
        Self { program: program.into(), child, log, readers, is_killed: false }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    async fn ended(&mut self) -> ExitStatus {
        let status = until("the process ends", PATIENCE, async || self.child.try_wait().unwrap()).await;
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        status
    }
}

fn reader(log: &Lines, source: impl Read + Send + 'static) -> JoinHandle<()> {
    let log = Arc::clone(log);
    thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            log.lock().unwrap().push(line);
        }
    })
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The name of the page's broker; it is removed when this is dropped, and when the test's process dies.
struct Container {
    name: String,
    remover: Child,
}

impl Container {
    fn new() -> Self {
        let name = format!("hops-e2e-{}", uuid::Uuid::now_v7().simple());
        let mut remover = Command::new("sh");
        remover.args(["-c", r#"cat; docker rm -f -v "$0""#, &name]).process_group(0);
        let remover =
            remover.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { name, remover }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        drop(self.remover.stdin.take());
        let _ = self.remover.wait();
    }
}

fn came(log: &Lines, places: &[(String, String)]) -> Vec<String> {
    log.lock().unwrap().iter().map(|line| as_on_the_page(line, places)).collect()
}

fn as_on_the_page(line: &str, places: &[(String, String)]) -> String {
    places.iter().fold(line.to_owned(), |text, (printed, real)| text.replace(real, printed))
}

fn is_as_printed(printed: &[String], came: &[String]) -> bool {
    match (printed, came) {
        ([], came) => came.is_empty(),
        ([dots, rest @ ..], came) if dots == "..." => {
            (0..=came.len()).any(|n| is_as_printed(rest, &came[n..]))
        }
        ([line, rest @ ..], [first, others @ ..]) => is_line(line, first) && is_as_printed(rest, others),
        (_, []) => false,
    }
}

fn is_line(printed: &str, came: &str) -> bool {
    let (printed, came) = (masked(printed), masked(came));
    let pieces: Vec<_> = printed.split("...").collect();
    let [first, between @ .., last] = &pieces[..] else { return printed == came };
    let Some(mut rest) = came.strip_prefix(first) else { return false };
    for piece in between {
        let Some((_, after)) = rest.split_once(piece) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

/// A line without what differs from run to run.
fn masked(line: &str) -> String {
    // `x` is a hexadecimal digit, `0` a decimal one, all else itself.
    const ANY: [(&str, &str); 4] = [
        ("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "<id>"),
        ("0000-00-00T00:00:00", "<instant>"),
        ("127.0.0.1:00000", "127.0.0.1:<port>"),
        ("port=00000", "port=<port>"),
    ];
    if let Ok(numbers) = serde_json::from_str::<BTreeMap<String, u64>>(line) {
        return format!("{:?} together {}", numbers.keys(), numbers.values().sum::<u64>());
    }
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    let (mut masked, mut rest) = (String::new(), line.as_str());
    while let Some(first) = rest.chars().next() {
        if let Some((shape, name)) = ANY.iter().find(|(shape, _)| has_shape(rest, shape)) {
            masked.push_str(name);
            rest = &rest[shape.len()..];
            if *name == "<instant>" {
                // The fraction has as many digits as it needs.
                rest = rest.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
            }
        } else {
            masked.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    masked
}

fn has_shape(text: &str, shape: &str) -> bool {
    let fits = |(byte, shape): (u8, u8)| match shape {
        b'x' => byte.is_ascii_hexdigit(),
        b'0' => byte.is_ascii_digit(),
        _ => byte == shape,
    };
    text.len() >= shape.len() && text.bytes().zip(shape.bytes()).all(fits)
}

#[test]
fn a_page_is_compared_line_by_line() {
    fn check(printed: &str, came: &str, expected: bool) {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(is_as_printed(&lines(printed), &lines(came)), expected, "{printed:?} {came:?}");
    }
    check("a\nb", "a\nb", true);
    check("a", "a\nb", false);
    check("a\nb", "a", false);
    check("...\nb", "a\na\nb", true);
    check("a\n...", "a", true);
    check("a ...d", "a b c d", true);
    check("a ...d", "a b c", false);
    check("a b", "a     b ", true);
    check("in 01a1f845-2531-7002-ab26-00a1be42a88b", "in 01a1f845-ad21-7416-a9ae-fcf9824854bf", true);
    check("\"2026-11-20T09:24:03.505Z\"", "\"2027-01-02T03:04:05Z\"", true);
    check("on 127.0.0.1:40000 port=40000", "on 127.0.0.1:39129 port=39129", true);
    check("on 127.0.0.1:6767", "on 127.0.0.1:6868", false);
    check(r#"{"v.1":16,"v.2":15}"#, r#"{"v.1":1,"v.2":30}"#, true);
    check(r#"{"v.1":16,"v.2":15}"#, r#"{"v.1":15,"v.2":15}"#, false);
    check(r#"{"v.1":16,"v.2":15}"#, r#"{"v.1":31}"#, false);
}

#[test]
fn a_page_is_read_step_by_step() {
    let page = "text\n```console\n$ one\nprinted\n$ two\n```\n```sh\n$ not this\n```\n```console\nline\n```\n```console\n^C\nbye\n```\n";
    let read: Vec<_> = steps(page).into_iter().map(|step| (step.typed, step.printed.join("|"))).collect();
    let expected = [("one", "printed"), ("two", ""), ("", "line"), ("^C", "bye")];
    assert_eq!(read, expected.map(|(typed, printed)| (typed.to_owned(), printed.to_owned())));
}
