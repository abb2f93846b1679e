//! What surrounds every service: start, HTTP around the handlers, health, shutdown.
//!
//! In reading order:
//! - `exit`: the exit codes
//! - [`signals`]: SIGTERM and SIGINT
//! - [`startup`]: a process, its threads, its port and its exit code
//! - [`instance`]: its name and the folder of its data
//! - [`http`]: everything around a handler: request id, limits, problems, health, metrics, the server
//! - [`healthcheck`]: the verb with which a service asks itself how it is
//! - [`shutdown`]: a service's run, and from SIGTERM to its exit, in order
//! - [`app`]: all of it put together, once for all services
//!
//! It knows no service, and nothing in it reads the environment: `main` hands it over.

mod exit;
pub mod signals;
pub mod startup;
pub mod instance;
pub mod http;
pub mod healthcheck;
pub mod shutdown;
pub mod app;

pub use self::{
    app::{App, Parts, Program},
    instance::Instance,
};

hops_config::sections! {
    /// The settings that every service has.
    pub struct Settings {
        /// The process.
        pub process: startup::Settings,
        /// The log.
        pub log: telemetry::Settings,
        /// The connection to the broker.
        pub broker: messaging::amqp::Settings,
        /// The operators' access.
        pub access: http::access::Settings,
        /// The HTTP server.
        pub http: http::Settings,
        /// The shutdown.
        pub shutdown: shutdown::Settings,
    }
}
