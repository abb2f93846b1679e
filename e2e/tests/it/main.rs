//! Tests over the running system: real binaries, a real broker, real signals.
//!
//! - `messaging`: the messaging client, without a service,
//! - `walk`: what happens to one VIP read, and to thirty,
//! - `kills`: the promise, held against everything that can be killed or cut,
//! - `crash_points`: the same, each crash at a place that the crash table names,
//! - `ladder`: what becomes of messages that fail,
//! - `faults`: every other fault that we know how to cause,
//! - `soak`: many of them, in an order drawn from a seed,
//! - `stops`: SIGTERM in bad times,
//! - `dead_letters`: what was given up, in the hands of a person,
//! - `bounds`: what is full says so, loses nothing, and goes on by itself,
//! - `clients`: clients that are slow, greedy, idle or many, and the others, who are served,
//! - `settings`: where settings come from, and that they change while services run,
//! - `operations`: what the person sees who runs the services,
//! - `config_bus`: the configserver, and who hears on the bus that settings have changed,
//! - `contracts`: what is published and declared is as `docs/contracts` has it,
//! - `pages`: the pages that a person types from, played as they are printed,
//! - `walkthrough`: its chapters, played, and the code that they show,
//! - `deploy`: what `deploy.sh` makes of a machine that is not as it should be, and the Dockerfile's first layer,
//! - `words`: what the pages name is there,
//! - `complete`: what is there the pages name,
//! - `tidy`: what the pages say of the code, and what the code promises about itself.

#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect fails")]

mod messaging;
mod walk;
mod kills;
mod crash_points;
mod ladder;
mod faults;
mod soak;
mod stops;
mod dead_letters;
mod bounds;
mod clients;
mod settings;
mod operations;
mod config_bus;
mod contracts;
mod pages;
mod walkthrough;
mod deploy;
mod words;
mod complete;
mod tidy;
