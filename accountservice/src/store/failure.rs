//! What follows a failure of the disk. sled writes nothing more in that process: reads go on, and once the disk can be written again the
//! service ends, so that whoever supervises it starts it again.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;

/// Time between two attempts to write.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of an attempt.
const ROOM: usize = 1024 * 1024;

/// Waits until the store has failed and the disk of `folder` can be written again, and then stops the service.
pub async fn stop_when_writable(failed: CancellationToken, folder: PathBuf, stop: CancellationToken) {
    failed.cancelled().await;
    loop {
        let folder = folder.clone();
        if let Ok(Ok(())) = spawn_blocking(move || write(&folder)).await {
            break;
        }
        sleep(RETRY_INTERVAL).await;
    }
    tracing::error!(
        "the disk of {} can be written again: this service ends, to be started again",
        folder.display()
    );
    stop.cancel();
}

/// Writes a file and removes it again.
fn write(folder: &Path) -> io::Result<()> {
    let path = folder.join("room.new");
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&vec![1; ROOM])?;
        file.sync_all()
    });
    written.and(fs::remove_file(&path))
}
