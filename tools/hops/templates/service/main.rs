//! Writes a note for each offer: a file, named after the offer's id.

use std::{env, fs, io, path::Path, process::ExitCode};

use contracts::topology::OFFERS;
use documented::DocumentedFields;
use hops_config::{Reloadable, Section, ServiceSettings};
use messaging::{Message, topology::Topology};
use serde::{Deserialize, Serialize};
use service::{App, Parts, Program, http::health, instance::create_private_folder};
use streams::{Replay, ReplayOptions};
use uuid::Uuid;

hops_config::sections! {
    /// Settings of this service.
    struct Settings {
        /// Its own.
        own: Own,
        /// Those of every service.
        service: service::Settings,
    }
}

impl ServiceSettings for Settings {
    const SERVICE: &'static str = env!("CARGO_PKG_NAME");
}

/// Settings that only this service has.
#[derive(Debug, Clone, Default, Deserialize, Serialize, DocumentedFields)]
#[serde(default)]
struct Own {
    /// First line of a note (default empty)
    note_title: Reloadable<String>,
}

impl Section for Own {}

/// The part of an offer that is read here; other fields are ignored.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Offer {
    id: Uuid,
    account_id: String,
    text: String,
}

#[expect(clippy::disallowed_methods, reason = "main is the one place that reads the environment")]
fn main() -> ExitCode {
    Program::new(6969, "Writes a note for each offer").run(env::args_os(), env::vars_os(), run)
}

async fn run(mut app: App<Settings>) -> Result<(), String> {
    let folder = app.instance.folder.clone();
    create_private_folder(&folder).map_err(|e| format!("cannot write {}: {e}", folder.display()))?;
    let own = app.settings.section(|settings| &settings.own);
    let title = own.live(|own, moment| own.note_title.at(moment).clone());
    let client = app.connect(Topology::default())?;
    let read = move |step| {
        if let Replay::Entry(offset, entry) = step
            && let Err(why) = write(&folder, &title.get(), &entry)
        {
            tracing::warn!(offset, "no note: {why}");
        }
    };
    streams::replay(&client, OFFERS, ReplayOptions::whole(), Box::new(read));
    let health = app.health().with("broker", health::broker(&client));
    app.run(Parts::new(client, health)).await
}

/// Writes the note of an offer, unless it exists. The file gets its name when it is complete.
fn write(folder: &Path, title: &str, entry: &Message) -> io::Result<()> {
    let Offer { id, account_id, text } = serde_json::from_slice(&entry.body)?;
    let (note, new) = (folder.join(format!("{id}.txt")), folder.join("new"));
    if !note.exists() {
        fs::write(&new, format!("{title}\nAccount {account_id}: {text}\n"))?;
        fs::rename(&new, &note)?;
        tracing::info!(request = entry.correlation_id, "a note for account {account_id} is written");
    }
    Ok(())
}
