//! The configserver as its clients see it: a whole server on a port of its own, and HTTP by hand.

mod cases;
mod http;
mod kit;
