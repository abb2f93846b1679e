//! Takes the stack down when the test's process has ended, however it ended.

use std::{
    fs,
    io::Read as _,
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use e2e::environment;

use super::{BROKER, IMAGES, folder};

/// It reads from us until we end; nobody waits for it but the next run.
static HIRED: OnceLock<Child> = OnceLock::new();

/// Variables that these tests set for `deploy.sh`.
pub(super) fn variables() -> Vec<(&'static str, String)> {
    let target = environment::target_dir().to_string_lossy().into_owned();
    let broker = environment::rabbitmq_image().unwrap_or_else(|| BROKER.into());
    vec![("HOPS_IMAGES", IMAGES.into()), ("RABBITMQ_IMAGE", broker), ("CARGO_TARGET_DIR", target)]
}

/// Waits for the janitor of an earlier run, finds that no person's stack is here, and starts ours.
pub(super) async fn hire() {
    fs::create_dir_all(folder()).unwrap();
    let lock = folder().with_file_name("lock");
    wait_for(&lock).await;
    assert_eq!(
        (docker(&["stack", "ls", "--format", "{{.Name}}"]).contains("hops"), left_volumes()),
        (false, String::new()),
        "a stack `hops`, or what one has kept, is on this machine, and these tests would remove it: \
         ./deploy.sh down --volumes"
    );
    let leave = match docker(&["info", "--format", "{{.Swarm.LocalNodeState}}"]).trim() {
        "inactive" => "docker swarm leave --force",
        _ => "true",
    };
    let script = format!("read -r _; ./deploy.sh down --volumes; {leave}");
    // In a session of its own: a signal for the tests is not for it.
    let janitor = Command::new("setsid")
        .args(["flock", &lock.to_string_lossy(), "sh", "-c", &script])
        .current_dir(folder())
        .envs(variables())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert!(HIRED.set(janitor).is_ok(), "one is enough");
}

/// Until nobody holds it: an earlier run's janitor is done.
async fn wait_for(lock: &std::path::Path) {
    let file = fs::File::create(lock).unwrap();
    let deadline = Instant::now() + Duration::from_secs(180);
    while file.try_lock().is_err() {
        assert!(Instant::now() < deadline, "another run of these tests has the swarm: {}", lock.display());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn left_volumes() -> String {
    docker(&["volume", "ls", "--quiet", "--filter", "name=^hops_rabbitmq$"])
}

fn docker(words: &[&str]) -> String {
    let output = Command::new("docker").args(words).stdout(Stdio::piped()).output();
    let output = output.expect("these tests need Docker");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() || said.contains("not a swarm manager"), "docker {words:?}: {said}");
    let mut text = String::new();
    output.stdout.as_slice().read_to_string(&mut text).unwrap();
    text
}
