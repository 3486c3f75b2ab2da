//! The migrations, and what those that a keyspace has had mean.

use crate::scylla::error::SchemaError;

/// A step from one version of the tables to the next.
#[derive(Debug)]
pub(super) struct Migration {
    /// The version it leads to, from 1, without gaps.
    pub(super) version: u32,
    /// Name of its file.
    pub(super) name: &'static str,
    text: &'static str,
}

/// Every migration, ascending.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "0001_usage_store",
        text: include_str!("../migrations/0001_usage_store.cql"),
    },
    Migration {
        version: 2,
        name: "0002_billing_store",
        text: include_str!("../migrations/0002_billing_store.cql"),
    },
    Migration {
        version: 3,
        name: "0003_epochs",
        text: include_str!("../migrations/0003_epochs.cql"),
    },
    Migration {
        version: 4,
        name: "0004_journals",
        text: include_str!("../migrations/0004_journals.cql"),
    },
    Migration {
        version: 5,
        name: "0005_dead_letter_groups",
        text: include_str!("../migrations/0005_dead_letter_groups.cql"),
    },
    Migration {
        version: 6,
        name: "0006_blocks",
        text: include_str!("../migrations/0006_blocks.cql"),
    },
];

/// Schema version that this program reads and writes.
#[allow(clippy::cast_possible_truncation)] // There are a handful.
pub const VERSION: u32 = MIGRATIONS.len() as u32;

impl Migration {
    /// Its statements without the comments, which are lines of their own. They name the keyspace as
    /// `{keyspace}`.
    pub(super) fn statements(&self) -> Vec<String> {
        let is_comment = |line: &&str| line.trim_start().starts_with("--");
        let text: Vec<&str> = self.text.lines().filter(|line| !is_comment(line)).collect();
        let text = text.join("\n");
        let statements = text.split(';').map(str::trim);
        statements.filter(|statement| !statement.is_empty()).map(str::to_owned).collect()
    }

    /// Hash of the text, in 32 hexadecimal digits.
    pub(super) fn checksum(&self) -> String {
        format!("{:032x}", domain::hash::bytes128(0, self.text.as_bytes()))
    }
}

/// What a keyspace has, to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// No tables.
    Missing,
    /// Exactly this program's.
    Current,
    /// Those of this earlier version.
    Older(u32),
}

/// A migration that was applied: its version and checksum.
pub(super) type Applied = (u32, String);

/// Judges what was applied, ascending.
///
/// # Errors
/// `Newer` and `Changed`.
pub(super) fn judge(keyspace: &str, applied: &[Applied]) -> Result<Standing, SchemaError> {
    let keyspace = || keyspace.to_owned();
    let Some((newest, _)) = applied.last() else { return Ok(Standing::Missing) };
    if *newest > VERSION {
        return Err(SchemaError::Newer { keyspace: keyspace(), found: *newest, known: VERSION });
    }
    for migration in MIGRATIONS {
        let found = applied.iter().find(|(version, _)| *version == migration.version);
        // Below the newest there is none that was not applied, for they are run in order.
        let Some((version, found)) = found else {
            return Ok(Standing::Older(migration.version - 1));
        };
        let wanted = migration.checksum();
        if *found != wanted {
            let (version, found) = (*version, found.clone());
            return Err(SchemaError::Changed { keyspace: keyspace(), version, found, wanted });
        }
    }
    Ok(Standing::Current)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(versions: &[u32]) -> Vec<Applied> {
        let checksum = |version: u32| {
            let known = MIGRATIONS.iter().find(|migration| migration.version == version);
            known.map_or_else(String::new, Migration::checksum)
        };
        versions.iter().map(|version| (*version, checksum(*version))).collect()
    }

    #[test]
    fn only_exactly_the_known_migrations_are_current() {
        assert_eq!(judge("k", &[]), Ok(Standing::Missing));
        assert_eq!(judge("k", &applied(&[1])), Ok(Standing::Older(1)));
        assert_eq!(judge("k", &applied(&[1, 2])), Ok(Standing::Older(2)));
        assert_eq!(judge("k", &applied(&[1, 2, 3])), Ok(Standing::Older(3)));
        assert_eq!(judge("k", &applied(&[1, 2, 3, 4])), Ok(Standing::Older(4)));
        assert_eq!(judge("k", &applied(&[1, 2, 3, 4, 5])), Ok(Standing::Older(5)));
        assert_eq!(judge("k", &applied(&[1, 2, 3, 4, 5, 6])), Ok(Standing::Current));
        let newer = judge("k", &applied(&[1, 2, 3, 4, 5, 6, 7]));
        assert!(matches!(newer, Err(SchemaError::Newer { found: 7, known: 6, .. })));
        let mut changed = applied(&[1, 2, 3, 4, 5, 6]);
        changed[0].1 = "0".to_owned();
        assert!(matches!(judge("k", &changed), Err(SchemaError::Changed { version: 1, .. })));
    }

    #[test]
    fn migrations_are_numbered_without_gaps_and_their_statements_may_be_repeated() {
        for (migration, version) in MIGRATIONS.iter().zip(1..) {
            assert_eq!(migration.version, version);
            assert!(migration.name.starts_with(&format!("{version:04}_")));
            assert!(!migration.statements().is_empty());
            for statement in migration.statements() {
                let repeatable = ["CREATE TABLE IF NOT EXISTS ", "DROP TABLE IF EXISTS "];
                let rest = repeatable.iter().find_map(|start| statement.strip_prefix(start));
                let is_ours = rest.is_some_and(|rest| rest.starts_with("{keyspace}."));
                assert!(is_ours, "{statement}");
            }
        }
    }
}
