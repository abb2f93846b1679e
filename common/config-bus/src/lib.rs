//! The bus on which changed settings are announced, as Spring Cloud Bus has it, and the refresh that it triggers.
//!
//! In reading order:
//! - [`BusId`]: an instance's name on the bus, and the destinations that address it; pure
//! - [`Event`]: events, read tolerantly and written exactly; [`send`] publishes one
//! - [`follow`]: an event, or a new connection, makes a service read its settings again

mod address;
mod event;
mod follow;

pub use self::{
    address::BusId,
    event::{Change, Event, Unread, send},
    follow::follow,
};

/// The exchange of Spring Cloud Bus. Services that share a broker and must not refresh each other have vhosts of their
/// own.
pub const SPRING_CLOUD_BUS: &str = "springCloudBus";
