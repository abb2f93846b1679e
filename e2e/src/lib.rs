//! The test kit: what the tests use to run the real binaries against a real broker and to break both.
//!
//! In reading order:
//! - [`fixture`]: `TestSystem`, one method per thing a user does; start here,
//! - [`process`]: one running service: its flags, its signals, its exit,
//! - [`log`]: what it printed,
//! - [`levels`]: the threads, files and memory that it holds,
//! - [`http`]: what it answered,
//! - [`binaries`]: where the binaries come from,
//! - [`broker`]: the shared broker with a vhost per test, and private brokers that a test may kill,
//! - [`proxy`]: a TCP proxy that cuts, freezes, delays and refuses,
//! - [`load`]: many VIP reads at once, and what was answered,
//! - [`sets`]: the promise, as an equation over request ids,
//! - [`python`]: Python with pika, for clients that nobody here wrote,
//! - [`webdriver`]: a browser, for the page on which the messages move,
//! - [`repository`]: the files of this repository,
//! - [`page`]: a page that a person types from, played,
//! - [`quote`]: code that a page shows, held against the files,
//! - [`environment`]: the variables that tell a run what to use,
//! - [`wait`]: waiting for a condition with a deadline.
//!
//! The kit knows the services only by what a user sees: flags, HTTP, log lines, exit codes and queues.
//! It links none of their code, so a test cannot pass by sharing a fault with what it tests.

pub mod fixture;
pub mod process;
pub mod log;
pub mod levels;
pub mod http;
pub mod binaries;
pub mod broker;
pub mod proxy;
pub mod load;
pub mod sets;
pub mod python;
pub mod webdriver;
pub mod repository;
pub mod page;
pub mod quote;
pub mod environment;
pub mod wait;
