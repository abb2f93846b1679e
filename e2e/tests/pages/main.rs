//! Tests about the pages and the repository itself: they hold whatever broker the services use, so CI runs them once.
//!
//! - `contracts`: what is published and declared is as `docs/contracts` describes it,
//! - `openapi`: the services answer what its document says, and the document itself,
//! - `pages`: the pages that a person types from, played as they are printed,
//! - `walkthrough`: its chapters, played, and the code that they show,
//! - `deploy`: what `deploy.sh` does on a machine that is not as it should be, and the Dockerfile's first layer,
//! - `words`: whatever the pages name exists,
//! - `complete`: whatever exists is named by the pages,
//! - `upkeep`: pinned versions are where the page about them says,
//! - `tidy`: what the pages say of the code, and what the code promises about itself.

#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect fails")]

mod contracts;
mod openapi;
mod pages;
mod walkthrough;
mod deploy;
mod words;
mod complete;
mod tidy;
mod upkeep;
