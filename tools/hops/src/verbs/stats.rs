//! `stats`: the CPU and the memory of each task, as `docker stats --no-stream` prints them.

use std::{fs, path::Path, time::Duration};

use anyhow::bail;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::Target;
use crate::{
    cli::TaskName,
    control::status,
    failure::Result,
    render::Screen,
    swarm::{Stack, docker},
};

/// Time between the two readings of a task's CPU time, which the kernel shows in steps of 10 ms; Docker's is the same.
const INTERVAL: Duration = Duration::from_secs(1);
/// A step of CPU time: a hundredth of a second on every Linux (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);
const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

/// Resources that a task uses.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Usage {
    name: String,
    /// CPU time in percent of one processor.
    cpu_percent: f64,
    memory_bytes: u64,
    /// Memory limit of the container; a process has none.
    limit_bytes: Option<u64>,
    /// Number of threads, in a container those of all its processes.
    pids: u64,
}

/// Figures of the kernel about a process at one time.
#[derive(Debug)]
struct Reading {
    at: Instant,
    cpu: Duration,
    threads: u64,
    memory_bytes: u64,
}

/// Prints the CPU and the memory of each task that runs: over one second for processes, of a stack as Docker measures them.
///
/// # Errors
/// Nothing is up, or this system has no `/proc`.
pub(crate) async fn stats(target: &Target<'_>, screen: Screen) -> Result<()> {
    let (usages, memory) = match target {
        Target::Local { .. } => (of_processes().await?, "MEM USAGE"),
        Target::Swarm { stack, .. } => (of_containers(stack).await?, "MEM USAGE / LIMIT"),
    };
    if screen.json {
        usages.iter().for_each(|usage| screen.value(usage));
        return Ok(());
    }
    let row = |usage: Usage| {
        let limit = usage.limit_bytes.map_or_else(String::new, |limit| format!(" / {}", size(limit)));
        let memory = size(usage.memory_bytes) + &limit;
        vec![usage.name, format!("{:.2}%", usage.cpu_percent), memory, usage.pids.to_string()]
    };
    let rows: Vec<_> = usages.into_iter().map(row).collect();
    screen.table(&["NAME", "CPU %", memory, "PIDS"], &rows);
    Ok(())
}

/// Measures the tasks of this checkout. A task that exits meanwhile is left out.
async fn of_processes() -> Result<Vec<Usage>> {
    if !Path::new("/proc/self/stat").exists() {
        bail!("`cargo hops stats` needs /proc, which only Linux has: `cargo hops status` shows the memory");
    }
    let tasks = status().await?.services.into_iter().flat_map(|service| service.tasks);
    let first = |pid: Option<u32>| pid.and_then(|pid| Some((pid, Reading::of(pid)?)));
    let before: Vec<_> = tasks.filter_map(|task| Some((task.name, first(task.pid)?))).collect();
    sleep(INTERVAL).await;
    let usages = before.into_iter().filter_map(|(name, (pid, before))| {
        let after = Reading::of(pid)?;
        let share = after.cpu.saturating_sub(before.cpu).as_secs_f64() / (after.at - before.at).as_secs_f64();
        Some(Usage {
            name,
            cpu_percent: (share * 1e4).round() / 1e2,
            memory_bytes: after.memory_bytes,
            limit_bytes: None,
            pids: after.threads,
        })
    });
    Ok(usages.collect())
}

/// Asks Docker about the containers of the stack on this machine.
async fn of_containers(stack: &Stack) -> Result<Vec<Usage>> {
    let containers = stack.containers().await?;
    let ids =
        containers.iter().filter(|container| container.is_running).map(|container| container.id.as_str());
    let format = "{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.PIDs}}";
    let arguments: Vec<_> = ["stats", "--no-stream", "--format", format].into_iter().chain(ids).collect();
    // Without a name, Docker would show the containers of others.
    if arguments.len() == 4 {
        return Ok(vec![]);
    }
    let text = docker(&arguments).await?;
    let mut usages: Vec<_> = text.lines().filter_map(|line| of_line(stack, line)).collect();
    usages.sort_by_cached_key(|usage| usage.name.parse().map(|it: TaskName| (it.service, it.slot)).ok());
    Ok(usages)
}

/// Parses a line of `docker stats`; `None` for a container that has exited, which has `--` in place of numbers.
fn of_line(stack: &Stack, line: &str) -> Option<Usage> {
    let [name, cpu, memory, pids] = line.split('\t').collect::<Vec<_>>().try_into().ok()?;
    let (name, _) = stack.without_prefix(name)?.rsplit_once('.')?;
    let (memory, limit) = memory.split_once(" / ")?;
    Some(Usage {
        name: name.into(),
        cpu_percent: cpu.strip_suffix('%')?.parse().ok()?,
        memory_bytes: bytes(memory)?,
        limit_bytes: Some(bytes(limit)?),
        pids: pids.parse().ok()?,
    })
}

impl Reading {
    fn of(pid: u32) -> Option<Self> {
        let file = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
        let (cpu, threads) = cpu_and_threads(&file("stat")?)?;
        Some(Self { at: Instant::now(), cpu, threads, memory_bytes: resident_memory(&file("status")?)? })
    }
}

/// Returns the CPU time of all threads and the number of threads, from `/proc/PID/stat`.
fn cpu_and_threads(stat: &str) -> Option<(Duration, u64)> {
    // The program's name, in parentheses, may have blanks and parentheses in it; the fields after it are numbered from 3.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u32>().ok();
    let (utime, stime, num_threads) = (field(14)?, field(15)?, field(20)?);
    Some((TICK * utime.saturating_add(stime), num_threads.into()))
}

/// Returns the resident memory in bytes, from `/proc/PID/status`, which a process that has exited has no more. Unlike
/// `/proc/PID/statm`, it does not count in pages, whose size differs between machines.
fn resident_memory(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Returns a size with four significant digits, as Docker prints it.
fn size(bytes: u64) -> String {
    let power = (bytes.max(1).ilog2() / 10).min(4);
    let value = bytes as f64 / 1024_f64.powi(power as i32);
    let decimals = 3_usize.saturating_sub((value as u64).max(1).ilog10() as usize);
    let number = format!("{value:.decimals$}");
    let number = if decimals > 0 { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
    format!("{number}{}", UNITS[power as usize])
}

/// Parses a size that Docker has printed.
fn bytes(size: &str) -> Option<u64> {
    let (number, unit) = size.split_at(size.find(|c: char| c.is_ascii_alphabetic())?);
    let power = UNITS.iter().position(|known| *known == unit)?;
    Some((number.parse::<f64>().ok()? * 1024_f64.powi(power as i32)).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_and_threads_are_fields_after_a_name_that_may_contain_anything() {
        let stat = |name: &str| {
            format!(
                "1234 ({name}) S 1 1234 1234 0 -1 4194560 911 0 3 0 150 25 7 9 20 0 5 0 88812 361054208 1551 \
                 18446744073709551615 1 1 0 0 0 0 0 4096 17647 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
            )
        };
        for name in ["vipservice", "tokio-rt (1) x", ") S 9 9"] {
            let expected = Some((Duration::from_millis(1750), 5));
            assert_eq!(cpu_and_threads(&stat(name)), expected, "{name}");
        }
        for text in ["", "1234 (vipservice) S 1 1234", "1234 (vipservice"] {
            assert_eq!(cpu_and_threads(text), None, "{text}");
        }
    }

    #[test]
    fn resident_memory_is_in_bytes_and_a_process_that_has_exited_has_none() {
        let status = "Name:\tvipservice\nVmPeak:\t  361056 kB\nVmRSS:\t    6216 kB\nThreads:\t5\n";
        assert_eq!(resident_memory(status), Some(6216 * 1024));
        assert_eq!(resident_memory("Name:\tvipservice\nState:\tZ (zombie)\nThreads:\t1\n"), None);
    }

    #[test]
    fn this_process_has_memory_and_threads() {
        let this = Reading::of(std::process::id()).unwrap();
        assert!(this.memory_bytes > 100 * 1024 && this.threads > 0, "{this:?}");
    }

    #[test]
    fn sizes_are_printed_and_read_with_four_digits_as_docker_prints_them() {
        for (number, text) in [
            (0, "0B"),
            (512, "512B"),
            (1536, "1.5KiB"),
            (1_949_303, "1.859MiB"),
            (136_210_022, "129.9MiB"),
            (192 << 20, "192MiB"),
            (1000 << 20, "1000MiB"),
            (2_099_165_266, "1.955GiB"),
            (1 << 40, "1TiB"),
        ] {
            assert_eq!(size(number), text);
            assert_eq!(bytes(text).map(size).as_deref(), Some(text));
        }
        assert_eq!(["", "5", "MiB", "5MB", "--"].map(bytes), [None; 5]);
    }

    #[test]
    fn a_line_of_docker_is_a_task_of_the_stack() {
        let of_line = |line: &str| of_line(&Stack::default(), line);
        let usage = of_line("hops_vipservice.1.4qhz6rb0vcs7\t0.51%\t6MiB / 192MiB\t5").unwrap();
        let expected = Usage {
            name: "vipservice.1".into(),
            cpu_percent: 0.51,
            memory_bytes: 6 << 20,
            limit_bytes: Some(192 << 20),
            pids: 5,
        };
        assert_eq!(usage, expected);
        for line in [
            "",
            "hops_vipservice.1.4qhz\t--\t-- / --\t--",
            "other_vipservice.1.4qhz\t0.51%\t6MiB / 192MiB\t5",
        ] {
            assert_eq!(of_line(line), None, "{line}");
        }
    }
}
