//! Tests over the stack on a real swarm: `cargo test -p e2e --features swarm --test swarm`.
//!
//! They need a Docker engine, the broker's image (`e2e/rabbitmq.sh build`) and what `./deploy.sh build --local` needs;
//! where something is missing they fail. They deploy the stack `hops` of a clean clone, in turns, and remove it.
//!
//! - `stack`: the clone, its stack, and what a person types,
//! - `deploying`: from nothing to nine hops, and three replicas,
//! - `page`: what the page of `./deploy.sh live` shows,
//! - `guarding`: what can be seen and reached of it,
//! - `broker`: a user for each service, and TLS,
//! - `rolling`: under load, everything that can be scaled, rolled, refreshed and killed,
//! - `rotating`: passwords, token and key replaced under load,
//! - `mistakes`: a broken image, bad settings, wrong words,
//! - `logging`: the logs, sent to a collector,
//! - `compose`: the same images by Docker Compose,
//! - `ending`: SIGTERM, and what is left,
//! - `walkthrough`: the chapter of the walk-through that deploys it.

#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect fails")]

mod stack;
mod deploying;
mod page;
mod guarding;
mod broker;
mod rolling;
mod rotating;
mod mistakes;
mod logging;
mod compose;
mod ending;
mod walkthrough;
