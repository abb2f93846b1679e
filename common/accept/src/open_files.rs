//! The limit of open files: each connection is one.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Open files that are no connections of clients: stores, connections to other servers, the log, and room to accept one
/// more.
const OTHER_FILES: usize = 64;

/// Raises the limit of open files to the hard limit, since the usual 1024 are few.
pub fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If that fails, `affordable_connections` logs it.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Returns the limit of open files of this process.
#[must_use]
pub fn file_limit() -> usize {
    as_count(getrlimit(Resource::Nofile).current)
}

/// Returns `wanted`, or the number of connections for which this process may have open files; then it logs a warning.
#[must_use]
pub fn affordable_connections(wanted: usize) -> usize {
    let files = getrlimit(Resource::Nofile).current;
    let affordable = affordable(wanted, files);
    if affordable < wanted {
        tracing::warn!(
            "this process may have only {} open files: at most {affordable} connections at a time instead of {wanted}; \
             raise its hard limit (`ulimit -Hn`)",
            files.unwrap_or_default(),
        );
    }
    affordable
}

fn affordable(connections: usize, files: Option<u64>) -> usize {
    connections.min(as_count(files).saturating_sub(OTHER_FILES)).max(1)
}

/// Returns a limit as a number; one without end is the greatest.
fn as_count(limit: Option<u64>) -> usize {
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_more_connections_than_open_files() {
        for (wanted, files, expected) in [
            (10_000, Some(20_000), 10_000),
            (10_000, None, 10_000),
            (10_000, Some(1024), 960),
            (100, Some(256), 100),
            (100, Some(10), 1),
        ] {
            assert_eq!(affordable(wanted, files), expected, "{wanted} of {files:?}");
        }
    }
}
