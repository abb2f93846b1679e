//! Values of arguments. Their errors say how to write them.

use std::{convert::Infallible, fmt, ops::RangeInclusive, str::FromStr};

use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};

use crate::failure::Result;

/// Name of a task: its service and its slot, as in `vipservice.2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskName {
    /// Name of the service.
    pub service: String,
    /// Number of the task within the service, from 1.
    pub slot: u32,
}

/// Number of tasks that a service is scaled to, as in `vipservice=3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scale {
    /// Name of the service.
    pub service: String,
    /// Number of its tasks.
    pub replicas: u32,
}

impl FromStr for TaskName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.strip_prefix("hops_").unwrap_or(text).rsplit_once('.');
        let task =
            parts.and_then(|(name, slot)| Some(Self { service: name.into(), slot: slot.parse().ok()? }));
        task.ok_or("a task is called NAME.N, as in `cargo hops kill vipservice.2`")
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.service, self.slot)
    }
}

impl FromStr for Scale {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.strip_prefix("hops_").unwrap_or(text).split_once('=');
        let scale =
            parts.and_then(|(name, n)| Some(Self { service: name.into(), replicas: n.parse().ok()? }));
        scale
            .filter(|scale| scale.replicas <= 50)
            .ok_or("write NAME=N, N from 0 to 50, as in `cargo hops service scale vipservice=3`")
    }
}

/// Removes the stack's name, so that `hops_vipservice`, the service's name on Docker Swarm, works here, too.
pub(super) fn service_name(name: &str) -> Result<String, Infallible> {
    Ok(name.strip_prefix("hops_").unwrap_or(name).to_owned())
}

/// Returns the parser of a name and a value with `=` between them. Its error has the form.
pub(super) fn pair<T: FromStr>(form: &'static str) -> impl Fn(&str) -> Result<(String, T), String> + Clone {
    move |text| {
        let parts = text.split_once('=').filter(|(name, _)| !name.is_empty());
        let pair = parts.and_then(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
        pair.ok_or_else(|| format!("write {form}"))
    }
}

/// Returns the parser of a number in this range. Its error has the range and the example.
pub(super) fn number<T>(
    range: RangeInclusive<T>,
    example: &'static str,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync
where
    T: FromStr + PartialOrd + fmt::Display + Clone + Send + Sync,
{
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        let (least, most) = (range.start(), range.end());
        number.ok_or_else(|| format!("write a number from {least} to {most}, as in `{example}`"))
    }
}

/// Parses a time as Docker's `--since` does: a duration before now, or a date, which is local without a zone.
pub(super) fn since(text: &str) -> Result<Timestamp, String> {
    let ago = text.parse::<SignedDuration>().ok().filter(|ago| !ago.is_negative());
    let ago = ago.and_then(|ago| Timestamp::now().checked_sub(ago).ok());
    let local = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::system()).ok().map(|at| at.timestamp());
    let found = ago.or_else(|| text.parse().ok()).or_else(local);
    found.ok_or_else(|| {
        "write a time, as in `cargo hops service logs --since 5m` or `--since 2026-11-20T14:47:38Z`"
            .to_owned()
    })
}
