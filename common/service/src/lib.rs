//! What surrounds every service: start, HTTP around the handlers, health, telemetry, shutdown.
//!
//! In reading order:
//! - [`startup`]: from the command line to a listening process with a name of its own
//! - [`http`]: everything around a handler: request id, limits, problems, health, metrics, the server
//! - [`healthcheck`]: a service asks itself how it is
//! - [`telemetry`]: log lines for people and for machines
//! - [`shutdown`]: a service's run, and from SIGTERM to its exit, in order
//!
//! It knows no service, and nothing in it reads the environment: `main` hands it over.

pub mod startup;
pub mod http;
pub mod healthcheck;
pub mod telemetry;
pub mod shutdown;
