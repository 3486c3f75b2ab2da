//! Descriptors: how many files the process may open, and how many of them connections may use.
//!
//! A process that has used up its descriptors for connections can open neither its log nor its
//! store: it takes pulses and counts none. So the limit is raised as far as the system allows, and
//! the last of it is kept from connections.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Fewest connections that a process can do its work with: a few clients and a probe.
const CONNECTIONS_MIN: usize = 16;

/// Raises the limit on open files to the most that the system allows this process. Gives the limit
/// that holds afterwards; `usize::MAX` where there is none.
///
/// # Errors
/// When the system refuses; the limit is as it was.
pub fn raise() -> io::Result<usize> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    let limit = getrlimit(Resource::Nofile).current;
    Ok(limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX)))
}

/// The limit on open files leaves too little for connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the limit on open files is {limit}, of which edge.descriptors_reserved keeps {reserved} for log and store, and fewer than {CONNECTIONS_MIN} are left for connections: raise the limit (`ulimit -n`, or LimitNOFILE in systemd) or lower the reserve"
)]
pub struct TooFewDescriptors {
    /// Most open files.
    pub limit: usize,
    /// How many of them are kept.
    pub reserved: usize,
}

/// How many connections there may be: as many as are configured, and no more than leaves
/// `reserved` descriptors of `limit` for everything else.
///
/// # Errors
/// When fewer than 16 are left.
pub fn connections_max(
    configured: usize,
    reserved: usize,
    limit: usize,
) -> Result<usize, TooFewDescriptors> {
    let left = limit.saturating_sub(reserved);
    if left < CONNECTIONS_MIN {
        return Err(TooFewDescriptors { limit, reserved });
    }
    Ok(configured.min(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_the_reserve_and_the_message_says_what_to_do() {
        for (configured, reserved, limit, expected) in [
            (1_024, 128, usize::MAX, Some(1_024)),
            (1_024, 128, 1_152, Some(1_024)),
            (1_024, 128, 1_151, Some(1_023)),
            (1_024, 128, 256, Some(128)),
            (1_024, 128, 144, Some(16)),
            (1_024, 128, 143, None),
            (1_024, 128, 100, None),
            // Fewer than the least are fine when that is what is asked for.
            (1, 128, 144, Some(1)),
        ] {
            let found = connections_max(configured, reserved, limit);
            assert_eq!(found.ok(), expected, "{configured} {reserved} {limit}");
        }
        let message = connections_max(1_024, 128, 143).unwrap_err().to_string();
        for part in ["143", "128", "16", "ulimit -n", "edge.descriptors_reserved"] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    #[test]
    fn the_limit_is_raised_to_the_hard_one() {
        let limit = raise().unwrap();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
        assert!(limit >= CONNECTIONS_MIN);
    }
}
