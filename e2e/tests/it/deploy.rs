//! The part of the Dockerfile that needs no engine.

use std::{fs, path::Path, process::Command};

use e2e::repository::{files, read, root};

fn copy(paths: &[String], folder: &Path) {
    for path in paths {
        let to = folder.join(path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(root().join(path), to).unwrap();
    }
}

/// What `docker build` would run first, over what it would be sent.
#[test]
fn the_dependencies_layer_has_a_file_for_every_target_that_a_manifest_names() {
    let folder = tempfile::tempdir().unwrap();
    let (all, manifests) = (folder.path().join("all"), folder.path().join("manifests"));
    copy(&files(), &all);
    let dockerfile = read("Dockerfile");
    let stage = dockerfile.split(" AS manifests\n").nth(1).unwrap().split("\nFROM ").next().unwrap();
    let run = stage.split("\nRUN ").nth(1).unwrap().split("\n\n").next().unwrap();
    let run = run.replace("/manifests", manifests.to_str().unwrap());
    let ran = Command::new("sh").args(["-euc", &run]).current_dir(&all).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--locked", "--no-deps", "--format-version=1"])
        .current_dir(&manifests)
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
}
