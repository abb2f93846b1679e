//! `deploy.sh` beside a `docker` that answers what a test wants, and the part of the Dockerfile that needs none.
//!
//! What a real engine can be made to do is in `e2e/tests/swarm`.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::{Command, Output},
};

use e2e::{
    binaries::write_program,
    repository::{files, read, root},
};
use tempfile::TempDir;

/// A machine with a stack that runs, whose engine says nothing else.
const ANSWERS: &str = r#"
        "info "*) echo active true 1 ;;
        "version --format {{.Server.APIVersion}}") echo 1.41 ;;
        "version "*) echo 28.2.2 ;;
        "stack deploy --help") echo "  -d, --detach" ;;
        "service ls "*) echo one ;;
        "service inspect "*) echo hops_vipservice 1 localhost/hops/vipservice:0123456789ab ;;
    esac
"#;

/// Creates a folder for deploy.sh, with a `docker` that has these answers and then the usual ones.
fn folder(answers: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let is_wanted = |path: &&String| {
        !path.contains('/') || path.starts_with("config-repo/") || path.starts_with("tools/stack/")
    };
    copy(&files().iter().filter(is_wanted).cloned().collect::<Vec<_>>(), folder.path());
    fs::create_dir(folder.path().join("bin")).unwrap();
    let docker = folder.path().join("bin/docker");
    let log = folder.path().join("asked");
    let script =
        format!("#!/bin/sh\necho \"$*\" >> '{}'\ncase \"$*\" in\n{answers}\n{ANSWERS}", log.display());
    write_program(&docker, &script);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn copy(paths: &[String], folder: &Path) {
    for path in paths {
        let to = folder.join(path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        // Not by this process: see `write_program`.
        let copied = Command::new("cp").arg("-p").arg(root().join(path)).arg(to).status().unwrap();
        assert!(copied.success(), "{path}");
    }
}

/// Types a line in that folder, before whose `docker` there is no other.
fn typed(folder: &Path, line: &str) -> Output {
    let line = format!("PATH=\"{}/bin:$PATH\"; {line}", folder.display());
    Command::new("bash").args(["-c", &line]).current_dir(folder).output().unwrap()
}

/// The exit code, and all that was printed.
fn said(output: &Output) -> (Option<i32>, String) {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn what_is_missing_is_named_before_anything_is_done() {
    for (answers, line, says) in [
        ("", "HOPS_WAIT=soon ./deploy.sh", "HOPS_WAIT: 'soon' is not a number of seconds"),
        ("", "HOPS_WAIT=0 ./deploy.sh", "HOPS_WAIT: '0' is not a number of seconds"),
        ("", "HOPS_PORT_BASE=60000 ./deploy.sh", "HOPS_PORT_BASE: '60000' is not a number from 0 to 49863"),
        ("", "HOPS_STACK=Hops ./deploy.sh", "HOPS_STACK: 'Hops' is not a name"),
        (r#""stack deploy --help") echo "  --prune" ;;"#, "./deploy.sh", "26 or later"),
        (r#""info "*) echo active true 2 ;;"#, "./deploy.sh", "this swarm has 2 nodes"),
        (r#""info "*) echo active true 2 ;;"#, "./deploy.sh refresh", "this swarm has 2 nodes"),
        (r#""info "*) echo active false 0 ;;"#, "./deploy.sh", "a worker of a swarm"),
        (r#""info "*) echo inactive false 0 ;;"#, "./deploy.sh refresh", "no swarm, and so no stack"),
    ] {
        let folder = folder(&format!("{answers}\n\"image inspect \"*) echo sha256:0123456789abcdef ;;"));
        let (code, said) = said(&typed(folder.path(), line));
        assert_eq!(code, Some(1), "{line}: {said}");
        assert!(said.contains(says), "{line}: {said}");
        let asked = fs::read_to_string(folder.path().join("asked")).unwrap_or_default();
        assert!(
            !asked.contains("stack deploy --detach") && !asked.contains("docker build"),
            "{line}: {asked}"
        );
    }
}

#[test]
fn through_a_link_it_works_in_its_own_folder() {
    let folder = folder("");
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(folder.path().join("deploy.sh"), elsewhere.path().join("hops")).unwrap();
    let typed = |words: &str| {
        said(&Command::new("./hops").args(words.split(' ')).current_dir(elsewhere.path()).output().unwrap())
    };
    let (code, help) = typed("help");
    assert_eq!(code, Some(0), "{help}");
    assert!(help.contains("./deploy.sh rollback"), "{help}");
    for verb in
        ["up", "build", "update", "scale", "refresh", "rollback", "rotate", "console", "token", "down"]
    {
        let (code, help) = typed(&format!("{verb} --help"));
        let says = format!("  ./deploy.sh {} ", if verb == "up" { "[up]" } else { verb });
        assert!(code == Some(0) && help.starts_with(&says) && help.lines().count() == 1, "{verb}: {help}");
    }
    let (code, version) = typed("--version");
    assert!(code == Some(0) && version.starts_with("hops 0."), "{version}");
    let (code, wrong) = typed("depoly");
    assert_eq!(
        (code, wrong.as_str()),
        (Some(1), "deploy.sh: unknown command 'depoly': ./deploy.sh help lists the commands\n")
    );
    fs::create_dir(folder.path().join(".secrets")).unwrap();
    fs::write(folder.path().join(".secrets/management_token"), "a token").unwrap();
    assert_eq!(typed("token").0, Some(0), "the token of its folder is found");
}

#[test]
fn a_clone_that_asks_for_windows_line_ends_has_scripts_that_run() {
    let (origin, parent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    copy(&files(), origin.path());
    let clone = parent.path().join("clone");
    let git = |folder: &Path, words: &str| {
        let words = format!("-c user.name=x -c user.email=x@localhost -c commit.gpgsign=false {words}");
        let output = Command::new("git").args(words.split(' ')).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "git {words}: {}", said(&output).1);
        String::from_utf8(output.stdout).unwrap()
    };
    git(origin.path(), "init --quiet --template=");
    git(origin.path(), "add --all");
    git(origin.path(), "commit --quiet --no-verify --message=all");
    git(parent.path(), &format!("clone --quiet -c core.autocrlf=true {} clone", origin.path().display()));
    let ends = git(&clone, "ls-files --eol");
    let other: Vec<_> = ends.lines().filter(|line| line.contains("crlf") || line.contains("mixed")).collect();
    assert!(other.is_empty(), ".gitattributes: give these files the ends of their lines: {other:#?}");
    let (code, help) = said(&Command::new("./deploy.sh").arg("help").current_dir(&clone).output().unwrap());
    assert_eq!(code, Some(0), "{help}");
}

#[test]
fn a_build_that_fails_is_not_passed_over() {
    let fails = "\"build --target configserver \"*) echo 'no space left' >&2; exit 1 ;;\n\"image inspect \"*) echo 1 ;;";
    let folder = folder(fails);
    let (code, said) = said(&typed(folder.path(), "./deploy.sh build"));
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("no space left") && said.contains("could not build localhost/hops/configserver"),
        "{said}"
    );
    let asked = fs::read_to_string(folder.path().join("asked")).unwrap();
    assert!(!asked.contains("build --target vipservice"), "{asked}");
}

#[test]
fn down_goes_on_where_docker_could_not_remove_all_at_once() {
    let folder = folder(
        r#"
        "stack rm "*) echo "network hops_default has active endpoints" >&2; [ ! -e tried ] && touch tried && exit 1; touch gone ;;
        "service ls "* | "network ls "*) [ -e gone ] || echo hops ;;
        "volume ls "*) echo hops_rabbitmq ;;"#,
    );
    let (code, said) = said(&typed(folder.path(), "./deploy.sh down"));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("kept the volumes hops_rabbitmq"), "{said}");
    assert!(folder.path().join("gone").exists(), "it was tried again");
}

#[test]
fn secrets_that_may_not_be_read_are_not_called_missing() {
    let folder = folder("");
    let secrets = folder.path().join(".secrets");
    fs::create_dir(&secrets).unwrap();
    fs::write(secrets.join("management_token"), "a token").unwrap();
    // For root nothing is unreadable.
    let nobody = "as=; [ \"$(id -u)\" != 0 ] || as='setpriv --reuid=65534 --regid=65534 --clear-groups'; $as";
    for unreadable in [secrets.join("management_token"), secrets.clone()] {
        fs::set_permissions(&unreadable, fs::Permissions::from_mode(0o000)).unwrap();
        let output = typed(folder.path(), &format!("{nobody} ./deploy.sh token"));
        fs::set_permissions(&unreadable, fs::Permissions::from_mode(0o755)).unwrap();
        let (code, said) = said(&output);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("exists, but you have no permission to read it: it belongs to "), "{said}");
    }
}

/// The folder with the secrets of the stack that runs on its machine.
fn with_secrets(folder: TempDir) -> TempDir {
    let made = said(&typed(folder.path(), "tools/stack/secrets.sh"));
    assert_eq!(made, (Some(0), String::new()));
    folder
}

/// Three tasks have failed: one before this deployment, and of the later ones the newest is not the first that Docker names.
const FAILURES: &str = r#"
        "image inspect --format"*) for id in 1 2 3 4; do echo "sha256:${id}123456789abcdef"; done ;;
        "stack deploy --detach=false "*) exit 1 ;;
        "stack ps --quiet "*) printf 'old\nnew\nnewer\n' ;;
        "inspect --type task "*) printf '%s\n' '"2001-01-01T00:00:00Z" old failed c-old' \
            '"2099-01-01T00:00:02Z" newer failed c-newer' '"2099-01-01T00:00:01Z" new rejected c-new' ;;
        "stack ps --no-trunc "*) printf '%s\n' 'new hops_vipservice.1: Rejected' 'newer hops_vipservice.3: Failed' ;;
        "logs --tail 15 c-newer") printf 'plain\033[2J \302\23331m Gr\303\266\303\237e\r\n' ;;
        "logs "*) echo another task ;;"#;

#[test]
fn the_failure_shown_is_the_newest_one_with_its_own_last_lines() {
    let folder = with_secrets(folder(FAILURES));
    let (code, said) = said(&typed(folder.path(), "HOPS_IPVS=yes ./deploy.sh"));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("--- hops_vipservice.3: Failed\nplain"), "{said}");
    for other in ["another task", "vipservice.1: Rejected", "everything is ready"] {
        assert!(!said.contains(other), "{other}: {said}");
    }
}

#[test]
fn a_warning_of_docker_is_no_answer() {
    let warns = r#""info "*) echo "WARNING: Error loading config file: permission denied" >&2; echo active true 1 ;;"#;
    let (code, said) = said(&typed(folder(warns).path(), "./deploy.sh rollback nobody"));
    assert_eq!((code, said.contains("there is no service 'nobody'")), (Some(1), true), "{said}");
}

#[test]
fn control_characters_of_a_log_are_replaced() {
    let folder = with_secrets(folder(FAILURES));
    let (_, text) = said(&typed(folder.path(), "HOPS_IPVS=yes ./deploy.sh"));
    assert!(text.contains("plain?[2J ?31m Größe?\n"), "{text:?}");
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
}

#[test]
fn images_that_are_built_here_are_no_registrys() {
    for file in ["docker-compose.yml", "docker-compose.noipvs.yml"] {
        for line in read(file).lines().filter(|line| line.trim_start().starts_with("image: ")) {
            let is_here = line.contains("${HOPS_IMAGES:-localhost/hops}/");
            assert!(is_here || line.contains("${RABBITMQ_IMAGE:-rabbitmq:"), "{file}: {line}");
        }
    }
}

/// Runs what `docker build` runs first, over the files that it is sent.
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
