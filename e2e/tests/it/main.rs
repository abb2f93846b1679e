//! Tests over the running system: real binaries, a real broker, real signals.
//!
//! - `messaging`: the messaging client, without a service,
//! - `walk`: what happens to one VIP read, and to thirty,
//! - `accounts`: accounts that change, on replicas with a store each,
//! - `kills`: the promise, held against everything that can be killed or cut,
//! - `crash_points`: the same, each crash at a place that the crash table names,
//! - `ladder`: what becomes of messages that fail,
//! - `faults`: every other fault that we know how to cause,
//! - `soak`: many of them, in an order drawn from a seed,
//! - `stops`: SIGTERM in bad times,
//! - `dead_letters`: what was given up, in the hands of a person,
//! - `bounds`: what is full says so, loses nothing, and goes on by itself,
//! - `history`: how much of a long stream a replica has to read,
//! - `clients`: clients that are slow, greedy, idle or many, and the others, who are served,
//! - `browsers`: what browsers send for pages of elsewhere, which is refused,
//! - `settings`: where settings come from, and that they change while services run,
//! - `operations`: what the person sees who runs the services,
//! - `permissions`: a broker user for each service, and what it may do,
//! - `config_bus`: the configserver, and who hears on the bus that settings have changed,
//! - `outputs`: commands whose output cannot be written,
//! - `alerts`: the rules for Prometheus, and what makes them fire.

#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect fails")]

mod messaging;
mod walk;
mod accounts;
mod kills;
mod crash_points;
mod ladder;
mod faults;
mod soak;
mod stops;
mod dead_letters;
mod bounds;
mod history;
mod clients;
mod browsers;
mod settings;
mod operations;
mod permissions;
mod config_bus;
mod outputs;
mod alerts;
