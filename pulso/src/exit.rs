//! Exit codes: the one table from what went wrong to the number a script sees.
//!
//! The numbers are those of `sysexits.h` where it has one. Every command returns either an
//! [`Exit`] (it ran, and this is its verdict) or a [`Failure`] (it could not run to its end).

use std::{fmt, io, path::Path, process::ExitCode};

use edge::listen::tls::plain::TLS_ONLY;
use edge::problem::{reason_of, reasons};
use tonic::{Code, Status};

/// What a process says by its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All went as asked.
    Success = 0,
    /// It ran, and a check it was asked to make failed: a catalogue test, an audit.
    CheckFailed = 1,
    /// `status`: the pipeline answers and says that it is not healthy.
    Unhealthy = 10,
    /// The command line is wrong.
    Usage = 64,
    /// The input is wrong, or a server refused it.
    Data = 65,
    /// The server cannot be reached.
    Unavailable = 69,
    /// A fault of this program or of the server.
    Internal = 70,
    /// It may succeed later.
    Retry = 75,
    /// Not allowed.
    Permission = 77,
    /// The configuration is wrong.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command could not run to its end: the exit code, and what a person needs to know.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What the process exits with.
    pub exit: Exit,
    /// What was wrong, where, and what to do. May have several lines.
    pub message: String,
}

impl Failure {
    /// A failure with its code and message.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string() }
    }

    /// Wrong input.
    pub fn data(message: impl fmt::Display) -> Self {
        Self::new(Exit::Data, message)
    }

    /// A fault of this program.
    pub fn internal(message: impl fmt::Display) -> Self {
        Self::new(Exit::Internal, message)
    }

    /// A local file that could not be opened, read or written.
    #[must_use]
    pub fn file(doing: &str, path: &Path, error: &io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists => Exit::Usage,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Exit::Permission,
            io::ErrorKind::InvalidData | io::ErrorKind::IsADirectory => Exit::Data,
            io::ErrorKind::StorageFull => Exit::Retry,
            _ => Exit::Internal,
        };
        Self::new(exit, format_args!("cannot {doing} {}: {error}", path.display()))
    }

    /// A call that the server answered with an error.
    #[must_use]
    pub fn status(status: &Status) -> Self {
        if is_not_grpc(status) {
            let message = "what answers there speaks HTTP and not gRPC: is it the server's HTTP \
                           address? --server or PULSO_SERVER takes the gRPC one";
            return Self::new(Exit::Unavailable, message);
        }
        let exit = match status.message().contains(TLS_ONLY) {
            true => Exit::Unavailable,
            false => exit_of(status.code()),
        };
        let mut message = edge::problem::explain(status);
        if reason_of(status).as_deref() == Some(reasons::CREDENTIAL_MISSING) {
            message.push_str("\n--key, PULSO_KEY or a file that PULSO_KEY_FILE names gives one.");
        }
        Self::new(exit, message)
    }
}

/// Tells whether an answer came from something that speaks HTTP/2 and not gRPC, as a server's HTTP
/// address does. The library knows only that the body is no frame, and names the HTTP status.
pub(crate) fn is_not_grpc(status: &Status) -> bool {
    status.code() == Code::Internal
        && status.message().contains("while receiving response with status")
}

/// Maps a canonical code to an exit code.
#[must_use]
pub const fn exit_of(code: Code) -> Exit {
    match code {
        Code::Ok => Exit::Success,
        Code::InvalidArgument
        | Code::OutOfRange
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition => Exit::Data,
        Code::Unavailable => Exit::Unavailable,
        Code::ResourceExhausted | Code::Aborted | Code::DeadlineExceeded | Code::Cancelled => {
            Exit::Retry
        }
        Code::PermissionDenied | Code::Unauthenticated => Exit::Permission,
        Code::Unknown | Code::Internal | Code::DataLoss | Code::Unimplemented => Exit::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_keep_the_numbers_that_scripts_rely_on() {
        for (exit, number) in [
            (Exit::Success, 0),
            (Exit::CheckFailed, 1),
            (Exit::Unhealthy, 10),
            (Exit::Usage, 64),
            (Exit::Data, 65),
            (Exit::Unavailable, 69),
            (Exit::Internal, 70),
            (Exit::Retry, 75),
            (Exit::Permission, 77),
            (Exit::Config, 78),
        ] {
            assert_eq!(exit as u8, number, "{exit:?}");
        }
    }

    #[test]
    fn a_status_tells_a_script_whether_to_retry() {
        for (code, exit) in [
            (Code::InvalidArgument, Exit::Data),
            (Code::NotFound, Exit::Data),
            (Code::Unavailable, Exit::Unavailable),
            (Code::ResourceExhausted, Exit::Retry),
            (Code::PermissionDenied, Exit::Permission),
            (Code::Internal, Exit::Internal),
        ] {
            assert_eq!(Failure::status(&Status::new(code, "no")).exit, exit, "{code:?}");
        }
    }
}
