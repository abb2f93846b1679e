//! The environment variables that tell a test run what to use: all of them, in one place.
#![expect(
    clippy::disallowed_methods,
    reason = "a test run is told by its environment, as `main` is by its own"
)]

use std::{
    env,
    ffi::OsString,
    io::{self, Write as _},
    path::PathBuf,
};

/// `HOPS_BROKER`: the AMQP address of the shared broker, without a virtual host. Where it is not set, or is `devbroker`,
/// the tests start one for themselves.
pub fn broker() -> Option<String> {
    let address = env::var("HOPS_BROKER").ok()?.trim_end_matches('/').to_owned();
    (address != "devbroker").then_some(address)
}

/// `HOPS_BROKER_ADMIN`: the management API of the same broker.
pub fn broker_admin() -> String {
    address("HOPS_BROKER_ADMIN", "http://127.0.0.1:15672")
}

/// `HOPS_RABBITMQ_IMAGE`: the image for private brokers.
pub fn rabbitmq_image() -> Option<String> {
    env::var("HOPS_RABBITMQ_IMAGE").ok()
}

/// `HOPS_TESTS=full`: the long variants.
pub fn is_full() -> bool {
    tests("full")
}

fn tests(part: &str) -> bool {
    env::var("HOPS_TESTS").is_ok_and(|value| value == part)
}

/// Tells whether a test that takes long may run: with `HOPS_TESTS=full` only. Else it has to return at once, and a line says
/// so that is seen without `--nocapture` too.
pub fn full_only(test: &str) -> bool {
    is_full() || left_out(test, "with HOPS_TESTS=full only")
}

/// Tells whether a test that needs RabbitMQ itself may run: where the tests run on one. Else as above.
pub fn rabbitmq_only(test: &str) -> bool {
    broker().is_some() || left_out(test, "with HOPS_BROKER=amqp://... only")
}

/// Tells whether a test that brings its own broker may run: where none is named; elsewhere it would repeat itself. Else as
/// above.
pub fn own_broker_only(test: &str) -> bool {
    broker().is_none() || left_out(test, "where no HOPS_BROKER is named")
}

/// Tells whether a chapter may be played: on its own broker, with `HOPS_TESTS=pages` or `full`. Else as above.
pub fn pages_only(page: &str) -> bool {
    own_broker_only(page)
        && (tests("pages") || is_full() || left_out(page, "with HOPS_TESTS=pages or HOPS_TESTS=full only"))
}

/// Tells whether a test that needs these programs may run: where all of them can be found. Else as above, but in CI, which
/// sets `CI`, a program that is missing fails the test.
pub fn has_programs(test: &str, programs: &[&str]) -> bool {
    let path = search_path();
    let is_missing = |name: &&&str| !env::split_paths(&path).any(|folder| folder.join(**name).is_file());
    let Some(missing) = programs.iter().find(is_missing) else { return true };
    assert!(env::var_os("CI").is_none(), "{test} needs {missing}");
    left_out(test, &format!("where there is {missing} (a package of Debian)"))
}

/// `HOPS_PICTURES`: the folder for pictures of the page, which are made only where it is set.
pub fn pictures() -> Option<PathBuf> {
    env::var_os("HOPS_PICTURES").map(PathBuf::from)
}

/// `HOPS_OPENAPI=write`: the services' parts of the OpenAPI document are written, and not only compared.
pub fn writes_openapi() -> bool {
    env::var_os("HOPS_OPENAPI").is_some_and(|what| what == "write")
}

fn left_out(test: &str, runs: &str) -> bool {
    let _ = writeln!(io::stdout().lock(), "\nLEFT OUT, it runs {runs}: {test}");
    false
}

/// `HOPS_SEED`: what a seeded test is to begin with, in place of a new seed.
pub fn seed() -> Option<u64> {
    let seed = env::var("HOPS_SEED").ok()?;
    Some(seed.parse().unwrap_or_else(|e| panic!("HOPS_SEED={seed}: {e}")))
}

/// `HOPS_BIN_DIR`: a folder of binaries that are built already.
pub fn bin_dir() -> Option<PathBuf> {
    env::var_os("HOPS_BIN_DIR").map(PathBuf::from)
}

/// Where cargo puts what it builds.
pub fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::repository::root().join("target"), PathBuf::from)
}

/// The cargo that runs the tests.
pub fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Variables of this shell that would reach into a service under test.
pub fn settings_of_services() -> impl Iterator<Item = OsString> {
    env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("APP_") || name == "INSTANCE_NAME" || name == "RUST_LOG"
    })
}

/// Variables of this shell that would reach into a `cargo hops` under test.
pub fn settings_of_the_tool() -> impl Iterator<Item = OsString> {
    env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("HOPS_"))
}

/// Where programs are looked for.
pub fn search_path() -> OsString {
    env::var_os("PATH").unwrap_or_default()
}

fn address(name: &str, default: &str) -> String {
    let address = env::var(name).unwrap_or_else(|_| default.to_owned());
    address.trim_end_matches('/').to_owned()
}
