//! A page that a person types from, played as it is printed: [`play`].
//!
//! Every block marked `console` is run, top to bottom: a line that begins with `$ ` is typed, and what follows must come out.
//! `^C` is Ctrl-C in the terminal of the instance that the next line begins with, or in the one that the block is marked with, as in
//! `console devbroker`: the terminal of that program, or one that a block of that mark has opened.
//! What is printed without a command are lines of the logs, or all that has come in that terminal since it was shown last.
//! A block below `<!-- file: PATH -->` is written to that file.
//!
//! What is run differs from what is typed in this, and what comes out is written back:
//! - It is run in a copy of this checkout, which the page may change, and on ports that nobody else has.
//! - `cargo hops` and `cargo run -p X` are the binaries that the test kit has built, the services with text logs as on a terminal;
//!   `cargo run --bin X` is an example, for those who play with [`play_chapter_with`]. Only `cargo build -p X` builds.
//!   What stays - a program that is given no verb, `up` without `-d`, `logs -f` - is left running in a terminal of its own.
//! - `pkill -9 -n vipservice` kills the newest vipservice of this page, and no other.
//!
//! Each command is typed once, a question at a person's pace: two seconds after the command before it has come back. Where something
//! takes longer, the page has a command that waits for it, such as `cargo hops wait`.
//!
//! Lines of cargo's own, such as `Compiling`, are on no page and left out of what comes out.
//! What comes out is as printed when both are the same after this: `...` stands for anything, on a line of its own for any lines; ids,
//! instants, times of day, free ports and numbers of processes are any, and so is a number with one decimal place, which is measured;
//! blanks may be more or fewer; of the numbers by replica only the sum counts; neighbors that begin with a time may change places; and
//! which of the accountservices it was is not said. A command may fail where the page prints its `error: `.

mod step;
mod compare;
mod stage;
mod running;
#[cfg(test)]
mod tests;

use std::{path::Path, process::Stdio, thread, time::Duration};

use tokio::{
    process,
    time::{sleep, timeout},
};

pub use self::stage::PORTS;
use self::{
    compare::{is_as_printed, is_line, is_of_cargo},
    running::Running,
    stage::Stage,
    step::{Step, steps},
};
use crate::{
    environment::{own_broker_only, pages_only},
    repository,
    wait::{PATIENCE, until},
};

/// For a command that comes back.
const COMMAND: Duration = Duration::from_secs(180);
/// For one that compiles, the first time with all dependencies, or deploys.
const BUILD: Duration = Duration::from_secs(900);
/// Time in which a person reads what has come and types a question: a page says to wait where something takes longer.
const PACE: Duration = Duration::from_secs(2);
const KILL_NEWEST: &str = "pkill -9 -n vipservice";

/// Types what a page has to type, and panics where something else comes out than it prints, or where the checkout is not left as it
/// was found. The page is named by its path from the root.
///
/// A page starts the broker that it needs, so it is played where the tests name none.
pub async fn play(path: &str) {
    if own_broker_only(path) {
        play_on(Stage::new(None), path).await;
    }
}

/// The same for a chapter of the walk-through; together they take minutes, so they are played with `HOPS_TESTS=pages` or `full`.
pub async fn play_chapter(path: &str) {
    if pages_only(path) {
        play_on(Stage::new(None), path).await;
    }
}

/// The same, with the folder in which cargo has built the examples.
pub async fn play_chapter_with(examples: &Path, path: &str) {
    if pages_only(path) {
        play_on(Stage::new(Some(examples)), path).await;
    }
}

/// The same in a folder that is there, with these variables, on the page's own ports: for what can be there only once.
pub async fn play_in(folder: &Path, variables: &[(String, String)], path: &str) {
    play_on(Stage::of(folder, variables), path).await;
}

async fn play_on(stage: Stage, path: &str) {
    let steps = steps(&repository::read(path));
    assert!(!steps.is_empty(), "{path} has no block marked console");
    let before = stage.changes();
    let mut page = Page { stage, running: vec![], last: vec![] };
    for step in &steps {
        page.play(step).await;
    }
    // As pages say: Ctrl-C ends what still runs.
    for running in page.running.iter_mut().filter(|running| !running.is_killed) {
        assert!(running.interrupted().await.success(), "{}", running.program);
    }
    assert_eq!(page.stage.changes(), before, "{path} leaves changes behind, which the next page would meet");
}

/// A page that is played.
struct Page {
    // Dropped before the stage that they play on.
    running: Vec<Running>,
    stage: Stage,
    /// Output of the last command, shown when a test fails.
    last: Vec<String>,
}

impl Page {
    async fn play(&mut self, step: &Step) {
        let wanted = format!("{:?} prints\n{}\n", step.typed, step.printed.join("\n"));
        if let Some(file) = &step.file {
            self.stage.write(file, &step.printed);
        } else if step.typed.is_empty() {
            self.look_for(step).await;
        } else if step.typed == "^C" {
            self.interrupt(step).await;
            assert!(is_as_printed(&step.printed, &self.last), "{wanted}");
        } else if step.stays() {
            self.start(step, &wanted).await;
        } else {
            if step.is_question() {
                sleep(PACE).await;
            }
            assert!(self.run(step).await, "{wanted}");
        }
    }

    /// Lines of the logs, or all that is new in a terminal.
    async fn look_for(&mut self, step: &Step) {
        if let Some(name) = &step.terminal {
            let index = self.terminal(name);
            let running = &self.running[index];
            let wanted = format!("{:?} and nothing else in the terminal {name}", step.printed);
            let is_it =
                async || is_as_printed(&step.printed, &self.came(running)[running.shown..]).then_some(());
            until(&wanted, PATIENCE, is_it).await;
            self.running[index].shown += step.printed.len();
            return;
        }
        for line in &step.printed {
            let running = &self.running[self.instance(line)];
            let is_there = async || self.came(running).iter().any(|came| is_line(line, came)).then_some(());
            until(&format!("{line:?} in the log"), PATIENCE, is_there).await;
        }
    }

    /// Ctrl-C.
    async fn interrupt(&mut self, step: &Step) {
        let index = match (&step.terminal, step.printed.first()) {
            (Some(name), _) => Some(self.terminal(name)),
            (None, first) => first.map(|line| self.instance(line)),
        };
        let mut running = self.running.remove(index.expect("a terminal in which something runs"));
        let before = running.printed().len();
        assert!(running.interrupted().await.success(), "Ctrl-C ends {}", running.program);
        let came = self.came(&running).split_off(before);
        // A line or two of its own may come before the signal does.
        let is_first = |line: &String| step.printed.first().is_some_and(|first| is_line(first, line));
        self.last = came.into_iter().skip_while(|line| !is_first(line)).collect();
    }

    /// Starts what stays, and waits until it has printed what it is to print.
    async fn start(&mut self, step: &Step, wanted: &str) {
        let mut command = self.stage.command("bash");
        // A shell that runs one command becomes it, so that a signal reaches it.
        command.args(["-c", &self.stage.real(&step.typed)]);
        self.running.push(Running::start(step.program(), command));
        let so_far = [step.printed.clone(), vec!["...".into()]].concat();
        until(wanted, PATIENCE, async || {
            let running = self.running.last_mut().expect("BUG: it was pushed");
            let has_ended = running.has_ended();
            let is_right = is_as_printed(&so_far, &self.came(&self.running[self.running.len() - 1]));
            assert!(is_right || !has_ended, "it has ended: {wanted}");
            is_right.then_some(())
        })
        .await;
        let running = self.running.last_mut().expect("BUG: it was pushed");
        running.shown = running.printed().len();
    }

    /// Runs a command that comes back, in a shell, and says whether that was as printed.
    async fn run(&mut self, step: &Step) -> bool {
        let mut real = self.stage.real(&step.typed);
        if real.contains(KILL_NEWEST) {
            let newest = self.running.iter_mut().rev().find(|running| running.program == "vipservice");
            let newest = newest.expect("a vipservice runs");
            newest.is_killed = true;
            real = real.replace(KILL_NEWEST, &format!("kill -9 {}", newest.id()));
        }
        let mut command = process::Command::from(self.stage.command("bash"));
        command.args(["-c", &real]).stdin(Stdio::null()).kill_on_drop(true);
        let is_long =
            ["cargo build ", "cargo test ", "./deploy.sh"].iter().any(|start| step.typed.starts_with(start));
        let limit = if is_long { BUILD } else { COMMAND };
        let output = timeout(limit, command.output()).await.expect("a command comes back");
        let output = output.expect("bash can be started");
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            said += &String::from_utf8_lossy(&output.stderr);
        }
        let lines = said.lines().filter(|line| !is_of_cargo(line));
        self.last = lines.map(|line| self.stage.as_on_the_page(line)).collect();
        (output.status.success() || step.fails()) && is_as_printed(&step.printed, &self.last)
    }

    /// Returns the output of a program with the page's ports.
    fn came(&self, running: &Running) -> Vec<String> {
        running.printed().iter().map(|line| self.stage.as_on_the_page(line)).collect()
    }

    /// The place of the process in a terminal.
    fn terminal(&self, name: &str) -> usize {
        let found = self.running.iter().rposition(|running| running.program == name);
        found.unwrap_or_else(|| panic!("nothing runs in the terminal {name}"))
    }

    /// The place of the process whose instance the line begins with.
    fn instance(&self, line: &str) -> usize {
        let name = line.split(' ').next();
        let is_its = |running: &Running| running.printed().iter().any(|line| line.split(' ').next() == name);
        let found = self.running.iter().position(is_its);
        found.unwrap_or_else(|| panic!("nobody is the instance of {line:?}"))
    }
}

impl Drop for Page {
    #[expect(clippy::print_stderr, reason = "a failed test shows what came out")]
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the last command printed\n{}", self.last.join("\n"));
            for running in &self.running {
                eprintln!("--- {}\n{}", running.program, tail(&self.came(running)));
            }
            let logs = self.stage.command("cargo").args(["hops", "service", "logs"]).output();
            let logs = logs.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            let logs: Vec<_> = logs.unwrap_or_default().lines().map(str::to_owned).collect();
            eprintln!("--- cargo hops service logs\n{}", tail(&logs));
        }
    }
}

fn tail(lines: &[String]) -> String {
    lines[lines.len().saturating_sub(40)..].join("\n")
}
