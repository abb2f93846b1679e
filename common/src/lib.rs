//! What two or more services need, and no business rule.
//!
//! In reading order:
//! - [`settings`]: compiled defaults, files, environment and flags become one struct per service
//! - [`contracts`]: what one service says to another
//! - [`trace`]: the request's id and its W3C trace context, which travel with the message
//! - [`metrics`]: numbers for Prometheus
//! - [`http`]: everything around a handler: request id, limits, problems, health, metrics, the server
//! - [`outbox`]: hop 5, messages on disk until the broker has confirmed them
//! - [`messaging`]: hop 6, the client's interface, the topology, and the AMQP adapter
//! - [`bus`]: the events by which settings change while services run, and whom they are meant for
//! - [`backoff`]: how long to wait before trying again
//! - [`startup`]: from the command line to a listening process with a name of its own
//! - [`healthcheck`]: a service asks itself how it is
//! - [`telemetry`]: log lines for people and for machines
//! - [`shutdown`]: a service's run, and from SIGTERM to its exit, in order
//! - [`failpoint`]: places where a test may end the process; nothing in a shipped binary
//!
//! `common` knows no service, and nothing in it reads the environment: `main` hands it over.

pub mod settings;
pub mod contracts;
pub mod trace;
pub mod metrics;
pub mod http;
pub mod outbox;
pub mod messaging;
pub mod bus;
pub mod backoff;
pub mod startup;
pub mod healthcheck;
pub mod telemetry;
pub mod shutdown;
pub mod failpoint;
