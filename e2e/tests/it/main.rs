//! Tests over the running system: real binaries, a real broker, real signals.
//!
//! - `walk`: what happens to one VIP read, and to thirty,
//! - `kills`: the promise, held against everything that can be killed or cut,
//! - `operations`: what the person sees who runs the services.

mod walk;
mod kills;
mod operations;
