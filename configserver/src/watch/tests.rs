//! Changes of a folder while people work in it.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use config_bus::{BusId, Event};
use messaging::{MockMessagingClient, PublishError};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::*;
use crate::monitor::CONFIRM_TIMEOUT;

/// A folder with two files.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    write(&folder, "application.yml", "a: 1");
    write(&folder, "svc-dev.yml", "b: 1");
    folder
}

fn write(folder: &TempDir, name: &str, text: &str) {
    fs::write(folder.path().join(name), text).unwrap();
}

/// Waits until `count` events were sent, for at most 20 s.
async fn until_sent(sent: &Mutex<Vec<String>>, count: usize) {
    let enough = async {
        while sent.lock().unwrap().len() < count {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), enough).await.expect("the event is sent");
}

#[test]
fn a_saved_file_is_seen_once_and_an_untouched_one_never() {
    let folder = folder();
    let mut watch = Watch::new(folder.path());
    assert_eq!(watch.poll(), [""; 0]);
    write(&folder, "svc-dev.yml", "b: 2");
    assert_eq!(watch.poll(), ["svc-dev.yml"]);
    assert_eq!(watch.poll(), [""; 0]);
    // Of the same size, and within the file system's idea of one moment.
    for n in [3, 4, 5] {
        write(&folder, "svc-dev.yml", &format!("b: {n}"));
        assert_eq!(watch.poll(), ["svc-dev.yml"], "{n}");
    }
    write(&folder, "svc-dev.yml", "b: 5");
    assert_eq!(watch.poll(), [""; 0], "saved without a change");
}

#[test]
fn a_file_that_was_old_when_it_was_seen_is_not_read_again_until_it_differs() {
    let folder = folder();
    let path = folder.path().join("svc-dev.yml");
    let made = |time| File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    let (old, newer) = (SystemTime::now() - 50 * SETTLE_TIME, SystemTime::now() - 20 * SETTLE_TIME);
    made(old);
    let mut watch = Watch::new(folder.path());
    assert!(watch.files["svc-dev.yml"].is_settled);
    write(&folder, "svc-dev.yml", "b: 2");
    made(old);
    assert_eq!(watch.poll(), [""; 0], "name, time, size and number are the same: it is not read");
    made(newer);
    assert_eq!(watch.poll(), ["svc-dev.yml"]);
}

#[test]
fn editors_save_in_many_ways() {
    let folder = folder();
    let mut watch = Watch::new(folder.path());
    let at = |name: &str| folder.path().join(name);
    // A new file in the old one's place, beside a copy, a lock and a swap file.
    fs::rename(at("svc-dev.yml"), at("svc-dev.yml~")).unwrap();
    write(&folder, ".svc-dev.yml.swp", "swap");
    write(&folder, "4913", "");
    write(&folder, ".#svc-dev.yml", "lock");
    write(&folder, "#svc-dev.yml#", "b: 2");
    write(&folder, "svc-dev.yml", "b: 2");
    assert_eq!(watch.poll(), ["svc-dev.yml"]);
    fs::rename(at("#svc-dev.yml#"), at("svc-dev.yml")).unwrap();
    assert_eq!(watch.poll(), [""; 0], "the same content under another number");
    // A link that is turned to another folder, as mounted configuration is.
    fs::create_dir(at(".one")).unwrap();
    fs::create_dir(at(".two")).unwrap();
    write(&folder, ".one/linked.yml", "c: 1");
    write(&folder, ".two/linked.yml", "c: 2");
    std::os::unix::fs::symlink(at(".one"), at(".data")).unwrap();
    std::os::unix::fs::symlink(".data/linked.yml", at("linked.yml")).unwrap();
    assert_eq!(watch.poll(), ["linked.yml"]);
    std::os::unix::fs::symlink(at(".two"), at(".new")).unwrap();
    fs::rename(at(".new"), at(".data")).unwrap();
    assert_eq!(watch.poll(), ["linked.yml"]);
}

#[test]
fn files_come_and_go_also_in_folders_of_labels() {
    let folder = folder();
    let mut watch = Watch::new(folder.path());
    fs::create_dir_all(folder.path().join("release/eu")).unwrap();
    write(&folder, "release/eu/svc.properties", "a=1");
    write(&folder, "release/notes.txt", "no configuration");
    fs::remove_file(folder.path().join("application.yml")).unwrap();
    assert_eq!(watch.poll(), ["application.yml", "release/eu/svc.properties"]);
    fs::remove_dir_all(folder.path().join("release")).unwrap();
    assert_eq!(watch.poll(), ["release/eu/svc.properties"]);
    std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).unwrap();
    assert_eq!(watch.poll(), [""; 0], "a link to a folder is not followed");
}

#[test]
fn a_folder_that_is_away_is_as_it_was_until_it_is_back() {
    let outer = TempDir::new().unwrap();
    let (here, away) = (outer.path().join("config-repo"), outer.path().join("away"));
    fs::create_dir(&here).unwrap();
    fs::write(here.join("svc.yml"), "a: 1").unwrap();
    fs::write(here.join("other.yml"), "a: 1").unwrap();
    let mut watch = Watch::new(&here);
    fs::rename(&here, &away).unwrap();
    assert_eq!(watch.poll(), [""; 0]);
    assert_eq!(watch.poll(), [""; 0]);
    fs::write(away.join("svc.yml"), "a: 2").unwrap();
    fs::rename(&away, &here).unwrap();
    assert_eq!(watch.poll(), ["svc.yml"]);
}

#[test]
fn a_link_that_is_switched_to_another_folder_is_seen_as_its_files() {
    let outer = TempDir::new().unwrap();
    for (release, value) in [("one", "1"), ("two", "2")] {
        fs::create_dir(outer.path().join(release)).unwrap();
        fs::write(outer.path().join(release).join("svc.yml"), format!("a: {value}")).unwrap();
        fs::write(outer.path().join(release).join("same.yml"), "b: 1").unwrap();
    }
    let current = outer.path().join("current");
    std::os::unix::fs::symlink("one", &current).unwrap();
    let mut watch = Watch::new(&current);
    std::os::unix::fs::symlink("two", outer.path().join("next")).unwrap();
    fs::rename(outer.path().join("next"), &current).unwrap();
    assert_eq!(watch.poll(), ["svc.yml"]);
}

#[tokio::test(start_paused = true)]
async fn a_save_while_the_broker_takes_nothing_is_told_when_it_does() {
    let folder = folder();
    let (broker, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(vec![])));
    let mut client = MockMessagingClient::new();
    client.expect_broadcast().returning({
        let (broker, sent) = (Arc::clone(&broker), Arc::clone(&sent));
        move |_, _, message| {
            let is_there = broker.load(Ordering::SeqCst);
            sent.lock().unwrap().push(Event::read(&message.body).unwrap().destination.unwrap());
            if is_there { Ok(()) } else { Err(PublishError::Unconfirmed("blocked".into())) }
        }
    });
    let id = BusId::given("config-server:test:1:1");
    let refresher = Refresher { client: Arc::new(client), id };
    let (watch, stop) = (Watch::new(folder.path()), CancellationToken::new());
    let work = async {
        write(&folder, "svc.yml", "b: new");
        until_sent(&sent, 1).await;
        // Longer than a client over HTTP waits.
        sleep(CONFIRM_TIMEOUT + Duration::from_secs(1)).await;
        broker.store(true, Ordering::SeqCst);
        let tried = sent.lock().unwrap().len();
        until_sent(&sent, tried + 1).await;
        stop.cancel();
    };
    tokio::join!(run(watch, refresher, stop.clone()), work);
}

#[tokio::test]
async fn a_burst_of_saves_is_one_refresh_for_each_name() {
    let folder = folder();
    let sent = Arc::new(Mutex::new(vec![]));
    let mut client = MockMessagingClient::new();
    client.expect_broadcast().returning({
        let sent = Arc::clone(&sent);
        move |_, _, message| {
            sent.lock().unwrap().push(Event::read(&message.body).unwrap().destination.unwrap());
            Ok(())
        }
    });
    let id = BusId::given("config-server:test:1:1");
    let refresher = Refresher { client: Arc::new(client), id };
    let (watch, stop) = (Watch::new(folder.path()), CancellationToken::new());
    let work = async {
        for n in 0..20 {
            write(&folder, "svc-dev.yml", &format!("b: x{n}"));
            write(&folder, "svc.yml", &format!("b: x{n}"));
        }
        until_sent(&sent, 2).await;
        write(&folder, "application.yml", "a: 2");
        until_sent(&sent, 3).await;
        stop.cancel();
    };
    tokio::join!(run(watch, refresher, stop.clone()), work);
    assert_eq!(*sent.lock().unwrap(), ["svc-dev:**", "svc:**", "*:**"]);
}
