//! Compares the reader with `docker stack config`, over the table in `tests/compose`.
//!
//! The table has Docker's answers, so that a machine without Docker compares, too. They are recorded again by
//! `HOPS_RECORD_DOCKER=1 cargo test -p hops compose::tests::docker`.

use std::{fs, io::Write as _, path::Path, process::Command, time::Duration};

use saphyr::{LoadableYamlNode as _, Scalar, Yaml};
use serde_json::{Map, Value, json};

use super::super::*;
use crate::project::Project;

const CASES: &str = include_str!("../../../tests/compose/cases.txt");
const ANSWERS: &str = include_str!("../../../tests/compose/docker.txt");

/// Environment of all files.
const VARIABLES: [(&str, &str); 6] = [
    ("HOME", "/home/me"),
    ("TAG", "7"),
    ("EMPTY", ""),
    ("X", "fromshell"),
    ("YES", "yes"),
    ("WORDS", "two words"),
];

/// Splits a table into names and texts.
fn table(text: &'static str) -> Vec<(&'static str, &'static str)> {
    let cases = text.split("\n=== ").skip(1);
    cases.map(|case| case.split_once('\n').unwrap_or((case, ""))).collect()
}

#[test]
fn each_file_is_read_as_docker_reads_it_or_refused_by_line_and_name() {
    let (cases, answers) = (table(CASES), table(ANSWERS));
    assert!(cases.len() >= 80, "{}", cases.len());
    let names = |table: &[(&'static str, _)]| table.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    assert_eq!(names(&cases), names(&answers), "record Docker's answers again");
    let variables = VARIABLES.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let parent = tempfile::tempdir().unwrap();
    let project = checkout(parent.path(), "");
    let mut wrong = vec![];
    for ((name, text), (_, answer)) in cases.iter().zip(&answers) {
        let refusal = text.lines().find_map(|line| line.strip_prefix("# refused: "));
        let problem = match (Compose::parse(text, &variables), refusal) {
            (Err(error), Some(expected)) => {
                let (error, expected_place) = (error.to_string(), "docker-compose.yml:");
                let is_as_expected = error.starts_with(expected_place) && error.contains(expected);
                (!is_as_expected).then(|| format!("expected: {expected}\nerror:    {error}"))
            }
            (Err(error), None) => Some(format!("refused: {error}")),
            (Ok(read), Some(_)) => {
                Some(format!("it is not refused: {:#}", view(&read, &project, parent.path())))
            }
            (Ok(_), None) if answer.starts_with("refused: ") => Some(format!("Docker refuses it: {answer}")),
            (Ok(read), None) => {
                let (ours, dockers) = (view(&read, &project, parent.path()), view_of_docker(answer));
                (ours != dockers).then(|| format!("ours: {ours:#}\nDocker's: {dockers:#}"))
            }
        };
        wrong.extend(problem.map(|problem| format!("=== {name}\n{text}{problem}\n")));
    }
    assert!(wrong.is_empty(), "{} of {} differ\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn the_recorded_answers_are_those_of_docker() {
    let help = Command::new("docker").args(["stack", "config", "--help"]).output();
    if !help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("docker stack config")) {
        // Standard error itself: what a test prints is shown only if it fails.
        let problem = "NOT COMPARED: no program here has `docker stack config` (Docker 23 and later have it)";
        writeln!(std::io::stderr(), "{problem}").unwrap();
        return;
    }
    let version = Command::new("docker").arg("--version").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let parent = tempfile::tempdir().unwrap();
    let mut answers = format!("Answers of `docker stack config`, {version}");
    for (name, text) in table(CASES) {
        answers.push_str(&format!("\n=== {name}\n{}", docker(parent.path(), text)));
    }
    if option_env!("HOPS_RECORD_DOCKER").is_some() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compose/docker.txt");
        return fs::write(file, answers).unwrap();
    }
    let (answers, recorded) = (answers.leak(), table(ANSWERS));
    let new: Vec<_> = table(answers).into_iter().filter(|answer| !recorded.contains(answer)).collect();
    assert!(new.is_empty(), "{version} answers differently: {new:#?}\n{}", ANSWERS.lines().next().unwrap());
}

/// Creates the folder `checkout` with a compose file.
fn checkout(parent: &Path, text: &str) -> Project {
    let folder = parent.join("checkout");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(FILE), text).unwrap();
    Project::find(&folder, BTreeMap::new()).unwrap()
}

/// Returns the answer of `docker stack config`, with `/checkout` as the folder of the file.
fn docker(parent: &Path, text: &str) -> String {
    let project = checkout(parent, text);
    let mut command = Command::new("docker");
    command.args(["stack", "config", "-c", FILE]).current_dir(project.root());
    command.envs(VARIABLES).env_remove("UNSET");
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(parent.to_str().unwrap(), "");
    match output.status.success() {
        true => text(&output.stdout),
        false => {
            format!("refused: {}\n", text(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" "))
        }
    }
}

/// Returns what the reader has read, in the form of [`view_of_docker`].
fn view(compose: &Compose, project: &Project, parent: &Path) -> Value {
    let absolute = |path: &str| {
        let path = project.absolute(path);
        path.strip_prefix(parent)
            .map_or_else(|_| path.display().to_string(), |path| format!("/{}", path.display()))
    };
    let mounts =
        |mounts: &[Mount]| mounts.iter().map(|mount| json!([mount.source, mount.target])).collect::<Value>();
    let service = |service: &Service| {
        let (restart, update, health) = (&service.restart, &service.update, &service.health);
        let condition = match restart.condition {
            Condition::None => "none",
            Condition::OnFailure => "on-failure",
            Condition::Any => "any",
        };
        json!({
            "image": service.image,
            "command": service.command,
            "environment": service.environment.iter().cloned().collect::<BTreeMap<_, _>>(),
            "ports": service.ports.iter().map(|port| json!([port.target, port.published])).collect::<Value>(),
            "replicas": service.replicas,
            "restart": [condition, shown(restart.delay), restart.max_attempts],
            "update": [update.start_first, update.parallelism, shown(update.delay), update.rollback],
            "grace": shown(service.stop_grace_period),
            "health": [health.enabled, shown(health.interval), shown(health.timeout), health.retries, shown(health.start_period)],
            "secrets": mounts(&service.secrets),
            "configs": mounts(&service.configs),
            "volumes": service.volumes.iter().map(|volume| match &volume.source {
                VolumeSource::Named(name) => json!(["volume", name, volume.target]),
                VolumeSource::Folder(path) => json!(["bind", absolute(path), volume.target]),
            }).collect::<Value>(),
        })
    };
    json!({
        "services": compose.services.iter().map(|s| (s.name.clone(), service(s))).collect::<Map<_, _>>(),
        "secrets": compose.secrets.iter().map(|(name, file)| (name, file.as_deref().map(absolute))).collect::<BTreeMap<_, _>>(),
        "configs": compose.configs.iter().map(|(name, file)| (name, absolute(file))).collect::<BTreeMap<_, _>>(),
        "volumes": compose.volumes,
    })
}

/// Returns what `docker stack deploy` makes of the output of `docker stack config`, as far as it concerns processes.
fn view_of_docker(answer: &str) -> Value {
    let root = json_of(&Yaml::load_from_str(answer).unwrap()[0]);
    let or = |value: &Value, default: Value| if value.is_null() { default } else { value.clone() };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let map = |value: &Value| value.as_object().cloned().unwrap_or_default();
    // Docker takes a zero for the default.
    let time = |value: &Value, default: &str| match value.as_str() {
        None | Some("0s") => json!(default),
        Some(_) => value.clone(),
    };
    let service = |service: &Value| {
        let deploy = &service["deploy"];
        let (restart, update, health) =
            (&deploy["restart_policy"], &deploy["update_config"], &service["healthcheck"]);
        let mut environment = map(&service["environment"]);
        environment.retain(|_, value| !value.is_null());
        let mounts = |key: &str, folder: &str| {
            let mount = |mount: &Value| {
                let target = or(&mount["target"], mount["source"].clone());
                let target = target.as_str().unwrap();
                let folder = if target.starts_with('/') { "" } else { folder };
                json!([mount["source"], format!("{folder}{target}")])
            };
            list(&service[key]).iter().map(mount).collect::<Value>()
        };
        let volume = |volume: &Value| {
            let source = volume["source"].as_str().unwrap();
            json!([volume["type"], source.trim_end_matches('/'), volume["target"]])
        };
        let is_checked = health["disable"] != json!(true) && health["test"][0] != json!("NONE");
        json!({
            "image": service["image"],
            "command": or(&service["command"], json!([])),
            "environment": environment,
            "ports": list(&service["ports"]).iter().map(|port| json!([port["target"], port["published"]])).collect::<Value>(),
            "replicas": or(&deploy["replicas"], json!(1)),
            "restart": [
                or(&restart["condition"], json!("any")),
                or(&restart["delay"], json!("5s")),
                if restart["max_attempts"] == json!(0) { Value::Null } else { restart["max_attempts"].clone() },
            ],
            "update": [
                update["order"] == json!("start-first"),
                or(&update["parallelism"], json!(1)),
                or(&update["delay"], json!("0s")),
                update["failure_action"] == json!("rollback"),
            ],
            "grace": or(&service["stop_grace_period"], json!("10s")),
            "health": [
                is_checked,
                time(&health["interval"], "30s"),
                time(&health["timeout"], "30s"),
                if health["retries"].as_i64().unwrap_or(0) == 0 { json!(3) } else { health["retries"].clone() },
                time(&health["start_period"], "0s"),
            ],
            "secrets": mounts("secrets", "/run/secrets/"),
            "configs": mounts("configs", "/"),
            "volumes": list(&service["volumes"]).iter().filter(|volume| volume["type"] != "tmpfs").map(volume).collect::<Value>(),
        })
    };
    let each = |key: &str, read: &dyn Fn(&str, &Value) -> Value| {
        map(&root[key]).iter().map(|(name, value)| (name.clone(), read(name, value))).collect::<Map<_, _>>()
    };
    json!({
        "services": each("services", &|_, value| service(value)),
        "secrets": each("secrets", &|_, value| value["file"].clone()),
        "configs": each("configs", &|_, value| value["file"].clone()),
        "volumes": each("volumes", &|name, value| or(&value["name"], json!(name))),
    })
}

fn json_of(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(Scalar::Boolean(flag)) => json!(flag),
        Yaml::Value(Scalar::Integer(number)) => json!(number),
        Yaml::Value(Scalar::FloatingPoint(number)) => json!(number.into_inner()),
        Yaml::Value(Scalar::String(text)) => json!(text),
        Yaml::Sequence(list) => list.iter().map(json_of).collect(),
        Yaml::Mapping(map) => Value::Object(
            map.iter().map(|(key, value)| (key.as_str().unwrap().to_owned(), json_of(value))).collect(),
        ),
        _ => Value::Null,
    }
}

/// Writes a duration as Go does: `1h30m0s`, `1.5s`, `250ms`.
fn shown(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let decimal = |unit: u128| {
        let fraction = format!("{:0width$}", nanos % unit, width = unit.to_string().len() - 1);
        let text =
            format!("{}.{fraction}", nanos / unit % if unit == 1_000_000_000 { 60 } else { u128::MAX });
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match nanos {
        0 => "0s".into(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(1_000_000)),
        _ => {
            let (hours, minutes) = (duration.as_secs() / 3600, duration.as_secs() / 60 % 60);
            let seconds = decimal(1_000_000_000);
            match (hours, minutes) {
                (0, 0) => format!("{seconds}s"),
                (0, _) => format!("{minutes}m{seconds}s"),
                _ => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}
