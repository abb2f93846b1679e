//! The broker as clients and operators meet it: over sockets, with lapin, in this process or as the binary.

#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect fails")]

mod kit;
mod clients;
mod operators;
mod durability;
mod garbage;
