//! Standard output of a command. Every program prints with [`line()`] or [`lines`], and calls [`finish`] before it exits.
//!
//! A failed write does not interrupt the command, whose work may be half done. It makes the exit code 1 at the end, as in
//! the programs of GNU. A reader that closes its pipe, as `head` does, has seen enough and is no error.
//! Log lines are not printed here: a service runs on when its log cannot be written.

mod printable;

use std::{
    io::{self, ErrorKind, Write},
    sync::OnceLock,
};

pub use self::printable::{printable, printable_lines};

/// First error of standard output, after which nothing more is written.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// Prints a line, with its control characters made visible.
pub fn line(text: &str) {
    print(&format!("{}\n", printable(text)));
}

/// Prints lines, each as [`line()`] does.
pub fn lines(text: &str) {
    print(&format!("{}\n", printable_lines(text)));
}

/// Prints a text as it is, such as the help of a command, or colors around what is printable.
pub fn print(text: &str) {
    write(&mut io::stdout().lock(), &LOST, text);
}

/// Returns true if nobody gets what is printed from now on, so that a command without an end can stop.
#[must_use]
pub fn is_lost() -> bool {
    LOST.get().is_some()
}

/// Returns the failure of standard output, if there was one.
///
/// # Errors
/// A sentence that says that the output is incomplete, and why.
pub fn finish() -> Result<(), String> {
    result(&LOST)
}

fn write(to: &mut impl Write, lost: &OnceLock<io::Error>, text: &str) {
    if lost.get().is_some() {
        return;
    }
    if let Err(error) = to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        let _ = lost.set(error);
    }
}

fn result(lost: &OnceLock<io::Error>) -> Result<(), String> {
    match lost.get().filter(|error| error.kind() != ErrorKind::BrokenPipe) {
        None => Ok(()),
        Some(error) => Err(format!(
            "standard output cannot be written, so the output is incomplete: {error}; free space, or write elsewhere"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes one text, and refuses each one after it with this error.
    struct Limited(Vec<u8>, ErrorKind);

    impl Write for Limited {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.0.is_empty() {
                return Err(self.1.into());
            }
            self.0.extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_cannot_be_written_is_an_error_unless_its_reader_has_gone() {
        for (error, is_failure) in [
            (ErrorKind::StorageFull, true),
            (ErrorKind::PermissionDenied, true),
            (ErrorKind::BrokenPipe, false),
        ] {
            let (mut to, lost) = (Limited(vec![], error), OnceLock::new());
            write(&mut to, &lost, "one\n");
            assert_eq!(result(&lost), Ok(()), "{error}");
            for text in ["two\n", "three\n"] {
                write(&mut to, &lost, text);
                assert_eq!(lost.get().map(io::Error::kind), Some(error));
            }
            assert_eq!(to.0, b"one\n", "{error}");
            let failure = result(&lost).err();
            assert_eq!(failure.is_some(), is_failure, "{error}: {failure:?}");
            assert!(failure.is_none_or(|why| why.contains("the output is incomplete")));
        }
    }
}
