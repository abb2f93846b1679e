//! The broker as a process, `devbroker [serve]`, and verbs that talk to a running one.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::PathBuf,
    process::ExitCode,
    str::FromStr,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use devbroker::{DevBroker, Options};
use output::{printable, printable_lines};
use serde_json::Value;

const BANNER: &str = "devbroker is for development and tests on one machine. It is not RabbitMQ and not for production: \
                      no cluster, no TLS, no users but guest/guest, all messages in memory.";
/// Values of `--port` and `--admin-port`, in the error about another one.
const PORT: &str = "a port from 0 to 65535, such as 5672";
/// Default of `--admin-port`.
const ADMIN_PORT: u16 = 15673;

/// Runs an AMQP 0-9-1 broker for development, or asks and changes one that runs
#[derive(Debug, Parser)]
#[command(name = "devbroker", after_help = BANNER, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Runs a broker, as without a verb
    Serve(Serve),
    /// Shows the counts of a broker and the size of its log
    Status(List),
    /// Lists the queues of a broker with RabbitMQ's columns
    Queues(List),
    /// Lists the connections of a broker with their ids
    Connections(List),
    /// Closes a connection, as an operator may
    CloseConnection {
        #[command(flatten)]
        admin: Admin,
        /// Id of the connection, as `devbroker connections` shows it
        #[arg(allow_negative_numbers = true, value_parser = number::<u64>("the id of a connection, such as 3, from `devbroker connections`"))]
        id: u64,
    },
    /// Blocks publishers, as a broker that is low on memory does, or lets them go on
    Alarm(Toggle),
    /// Freezes a broker, whose sockets stay open while nothing moves, or resumes it
    Pause(Toggle),
    /// Drops the next confirms, although the messages have arrived
    DropConfirms {
        #[command(flatten)]
        admin: Admin,
        /// Number of confirms
        #[arg(allow_negative_numbers = true, value_parser = number::<u64>("a number of confirms, such as 10"))]
        count: u64,
    },
}

#[derive(Debug, Args)]
struct Serve {
    /// Port for clients; 0 picks a free one
    #[arg(long, default_value_t = 5672, allow_negative_numbers = true, value_parser = number::<u16>(PORT))]
    port: u16,
    /// Port for operators, over HTTP; 0 picks a free one
    #[arg(long, default_value_t = ADMIN_PORT, allow_negative_numbers = true, value_parser = number::<u16>(PORT))]
    admin_port: u16,
    /// Folder of the log
    #[arg(long, default_value = "devbroker-data")]
    data_dir: PathBuf,
    /// Waits for the disk at each write, so that confirmed messages survive a power loss
    #[arg(long, conflicts_with = "in_memory")]
    fsync: bool,
    /// Keeps nothing on disk
    #[arg(long, conflicts_with = "data_dir")]
    in_memory: bool,
    /// Listens on all addresses, without users and TLS
    #[arg(long)]
    allow_remote: bool,
    /// Name of the broker, which clients see
    #[arg(long, default_value = "devbroker@localhost")]
    node_name: String,
}

#[derive(Debug, Args)]
struct Admin {
    /// Admin port of the broker
    #[arg(long, default_value_t = ADMIN_PORT, allow_negative_numbers = true, value_parser = number::<u16>(PORT))]
    admin_port: u16,
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    admin: Admin,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Toggle {
    #[command(flatten)]
    admin: Admin,
    #[arg(value_parser = ["on", "off"])]
    switch: String,
}

/// Returns the parser of a number. Its error says which one is wanted.
fn number<T: FromStr>(wanted: &'static str) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| text.parse().map_err(|_| format!("write {wanted}"))
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(help) if !help.use_stderr() => {
            output::print(&help.to_string());
            return exit(output::finish());
        }
        Err(error) => {
            let _ = write!(io::stderr(), "{}", printable_lines(&error.to_string()));
            return ExitCode::from(2);
        }
    };
    exit(run(arguments).and_then(|()| output::finish()))
}

fn run(arguments: Arguments) -> Result<(), String> {
    match arguments.verb {
        None => serve(arguments.serve),
        Some(Verb::Serve(serve_arguments)) => serve(serve_arguments),
        Some(Verb::Status(list)) => show(&list, "/status"),
        Some(Verb::Queues(list)) => show(&list, "/queues"),
        Some(Verb::Connections(list)) => show(&list, "/connections"),
        Some(Verb::CloseConnection { admin, id }) => change(&admin, &format!("/connections/{id}/close")),
        Some(Verb::Alarm(Toggle { admin, switch })) => change(&admin, &format!("/alarm/{switch}")),
        Some(Verb::Pause(Toggle { admin, switch })) => change(&admin, &format!("/pause/{switch}")),
        Some(Verb::DropConfirms { admin, count }) => change(&admin, &format!("/drop-confirms/{count}")),
    }
}

fn exit(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "devbroker: {}", printable(&error));
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: Serve) -> Result<(), String> {
    let Serve { port, admin_port, data_dir, fsync, in_memory, allow_remote, node_name } = arguments;
    let address = if allow_remote { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
    let options = Options {
        listen: (address, port).into(),
        // Never for other machines: anybody could use its switches.
        admin: Some((Ipv4Addr::LOCALHOST, admin_port).into()),
        data_dir: (!in_memory).then_some(data_dir),
        fsync,
        allow_remote,
        node_name,
        ..Options::default()
    };
    accept::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start the threads of the broker: {error}"))?;
    runtime.block_on(async {
        let folder = options.data_dir.clone();
        let broker = DevBroker::start(options).await.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!("{error}; try another --port or --data-dir, or --port 0 for a free port")
            }
            _ => error.to_string(),
        })?;
        for damage in broker.damage() {
            let _ = writeln!(io::stderr(), "devbroker: {}", printable(damage));
        }
        announce(&broker, folder.as_deref(), fsync);
        output::finish()?;
        let failed = tokio::select! {
            () = stop_signal() => None,
            why = broker.failed() => Some(why),
        };
        broker.stop().await;
        match failed {
            None => Ok(()),
            Some(why) => Err(format!(
                "the log could not be written, so the broker has stopped: {why}; nothing was confirmed that is not in the \
                 log: make room there, and start the broker again"
            )),
        }
    })
}

/// Prints the addresses; with port 0 this is how the caller learns them.
fn announce(broker: &DevBroker, folder: Option<&std::path::Path>, fsync: bool) {
    let survives = match (folder, fsync) {
        (None, _) => "All of it is gone when the broker ends.",
        (Some(_), true) => "Confirmed messages survive kill -9 and a power loss.",
        (Some(_), false) => {
            "Confirmed messages survive kill -9 of the broker, but not a power loss; with --fsync they do."
        }
    };
    let admin = broker.admin_address().map(|address| format!("http://{address}")).unwrap_or_default();
    let folder = folder.map_or("in memory only".into(), |folder| folder.display().to_string());
    output::lines(&format!("{BANNER}\n{survives}\nready: {} - admin {admin} - data {folder}", broker.url()));
}

async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        },
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

fn show(list: &List, path: &str) -> Result<(), String> {
    let answer = http(list.admin.admin_port, "GET", path)?;
    output::lines(&if list.json { format!("{answer:#}") } else { lines(&answer) });
    Ok(())
}

fn change(admin: &Admin, path: &str) -> Result<(), String> {
    output::lines(&lines(&http(admin.admin_port, "POST", path)?));
    Ok(())
}

/// Formats an answer with one line per row or field.
fn lines(answer: &Value) -> String {
    let pairs = |value: &Value| match value.as_object() {
        Some(fields) => fields.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
        None => vec![value.to_string()],
    };
    match answer.as_array() {
        Some(rows) => rows.iter().map(|row| pairs(row).join("  ")).collect::<Vec<_>>().join("\n"),
        None => pairs(answer).join("\n"),
    }
}

fn http(port: u16, method: &str, path: &str) -> Result<Value, String> {
    let no_answer = |error: io::Error| {
        format!(
            "no devbroker answers on admin port {port} ({error}); start one with `cargo run -p devbroker`"
        )
    };
    let limit = Some(Duration::from_secs(5));
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(no_answer)?;
    socket.set_read_timeout(limit).and_then(|()| socket.set_write_timeout(limit)).map_err(no_answer)?;
    let request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).map_err(no_answer)?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).map_err(no_answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or("the answer on the admin port is not HTTP; another program may use that port")?;
    if head.starts_with("HTTP/1.1 404") {
        return Err(format!("not found: {path}"));
    }
    serde_json::from_str(body).map_err(|_| head.lines().next().unwrap_or_default().to_owned())
}
