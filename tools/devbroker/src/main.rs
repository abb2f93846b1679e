//! The broker as a process: `devbroker [serve]`, and verbs that ask one that runs.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use devbroker::{DevBroker, Options};
use serde_json::Value;

const BANNER: &str = "devbroker is for development and tests on one machine. It is not RabbitMQ and not for production: \
                      no cluster, no TLS, no users but guest/guest, all messages in memory; it survives kill -9, and \
                      loses data on power loss.";
/// What the admin port is if nothing else is said.
const ADMIN_PORT: &str = "15673";

fn main() -> ExitCode {
    let matches = arguments().get_matches();
    let result = match matches.subcommand() {
        None => serve(&matches),
        Some(("serve", matches)) => serve(matches),
        Some((verb, matches)) => ask(verb, matches),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "devbroker: {why}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Command {
    let port = |name, default, help| {
        Arg::new(name).long(name).default_value(default).value_parser(value_parser!(u16)).help(help)
    };
    let flag = |name, help| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    let serving = |command: Command| {
        command
            .arg(port("port", "5672", "where clients connect; 0 takes a free one"))
            .arg(port("admin-port", ADMIN_PORT, "where operators ask over HTTP; 0 takes a free one"))
            .arg(
                Arg::new("data-dir")
                    .long("data-dir")
                    .default_value("devbroker-data")
                    .help("the folder of the log"),
            )
            .arg(flag("in-memory", "keep nothing on disk").conflicts_with("data-dir"))
            .arg(flag("allow-remote", "listen on all addresses, without users and TLS"))
            .arg(Arg::new("node-name").long("node-name").default_value("devbroker@localhost"))
    };
    let verb = |name, about| {
        Command::new(name).about(about).arg(port("admin-port", ADMIN_PORT, "the admin port of the broker"))
    };
    let on_off = || Arg::new("switch").required(true).value_parser(["on", "off"]);
    let number = |name| Arg::new(name).required(true).value_parser(value_parser!(u64));
    serving(Command::new("devbroker").about("An AMQP 0-9-1 broker for development").after_help(BANNER))
        .args_conflicts_with_subcommands(true)
        .subcommand(serving(Command::new("serve").about("Runs the broker (the default)")))
        .subcommand(verb("status", "Says how a broker is").arg(flag("json", "as JSON")))
        .subcommand(verb("queues", "Lists queues").arg(flag("json", "as JSON")))
        .subcommand(verb("connections", "Lists connections").arg(flag("json", "as JSON")))
        .subcommand(verb("close-connection", "Closes a connection, as an operator may").arg(number("id")))
        .subcommand(verb("alarm", "Stops publishers, as a broker low on memory does").arg(on_off()))
        .subcommand(verb("pause", "Freezes the broker: sockets stay open, nothing moves").arg(on_off()))
        .subcommand(verb("drop-confirms", "Swallows the next confirms").arg(number("count")))
}

fn serve(matches: &ArgMatches) -> Result<(), String> {
    let remote = matches.get_flag("allow-remote");
    let at = |name| {
        let port = matches.get_one::<u16>(name).copied().unwrap_or(0);
        SocketAddr::from((if remote { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST }, port))
    };
    let word = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    let options = Options {
        listen: at("port"),
        // Its switches would be anybody's.
        admin: Some((Ipv4Addr::LOCALHOST, at("admin-port").port()).into()),
        data_dir: (!matches.get_flag("in-memory")).then(|| PathBuf::from(word("data-dir"))),
        allow_remote: remote,
        node_name: word("node-name"),
        ..Options::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start its threads: {error}"))?;
    runtime.block_on(async {
        let folder = options.data_dir.clone();
        let broker = DevBroker::start(options).await.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => format!("{error}; another --port or --data-dir, or --port 0, may do"),
            _ => error.to_string(),
        })?;
        announce(&broker, folder.as_deref());
        let failed = tokio::select! {
            () = stop_signal() => false,
            () = broker.failed() => true,
        };
        broker.stop().await;
        if failed {
            Err("its log could not be written: nothing that rests on it was confirmed".into())
        } else {
            Ok(())
        }
    })
}

/// Who starts it with port 0 reads the ports here.
fn announce(broker: &DevBroker, folder: Option<&std::path::Path>) {
    let mut out = std::io::stdout();
    let admin = broker.admin_address().map(|address| format!("http://{address}")).unwrap_or_default();
    let folder = folder.map_or("in memory only".into(), |folder| folder.display().to_string());
    let _ = writeln!(out, "{BANNER}\nready: {} - admin {admin} - data {folder}", broker.url());
    let _ = out.flush();
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

fn ask(verb: &str, matches: &ArgMatches) -> Result<(), String> {
    let port = matches.get_one::<u16>("admin-port").copied().unwrap_or(0);
    let switch = || matches.get_one::<String>("switch").cloned().unwrap_or_default();
    let number = |name| matches.get_one::<u64>(name).copied().unwrap_or(0);
    let (method, path) = match verb {
        "close-connection" => ("POST", format!("/connections/{}/close", number("id"))),
        "alarm" | "pause" => ("POST", format!("/{verb}/{}", switch())),
        "drop-confirms" => ("POST", format!("/drop-confirms/{}", number("count"))),
        _ => ("GET", format!("/{verb}")),
    };
    let answer = http(port, method, &path)?;
    let mut out = std::io::stdout();
    let as_json = matches.try_get_one::<bool>("json").ok().flatten().copied().unwrap_or(false);
    let shown = if as_json { format!("{answer:#}") } else { lines(&answer) };
    writeln!(out, "{shown}").map_err(|error| error.to_string())
}

/// One line per row or field.
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
    let nobody = |error: std::io::Error| {
        format!("no devbroker answers on admin port {port} ({error}): is it started?")
    };
    let limit = Some(Duration::from_secs(5));
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(nobody)?;
    socket.set_read_timeout(limit).and_then(|()| socket.set_write_timeout(limit)).map_err(nobody)?;
    let request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).map_err(nobody)?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).map_err(nobody)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("its answer is no HTTP")?;
    if head.starts_with("HTTP/1.1 404") {
        return Err(format!("there is no such thing: {path}"));
    }
    serde_json::from_str(body).map_err(|_| head.lines().next().unwrap_or_default().to_owned())
}
