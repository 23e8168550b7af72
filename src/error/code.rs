//! A stable name for what went wrong, and of which kind that is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What went wrong, as far as a program decides by it: what is done next, the RPC error, the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Somebody stopped it.
    Cancelled,
    /// What was asked for by name does not exist.
    NotFound,
    /// The parameters of a call do not fit.
    Params,
    /// Who calls may not do this.
    Forbidden,
    /// What was written does not fit: config, options, a value that was typed; or what is there is not what it has to be.
    Invalid,
    /// The same, before it is understood what stands where: so nothing says yet which of it is a secret.
    Unread,
    /// A server, a share or a program does not answer.
    Unreachable,
    /// A path of this host does not come back.
    Hanging,
    /// Who was asked says nothing any more, or what it lies on is not mounted: nobody knows for how long.
    Away,
    /// It took too long, or came to no progress.
    TimedOut,
    /// Somebody does not let us in: a password, a token, a second factor.
    Unauthorized,
    /// We were let in, and lack the right for this.
    Denied,
    /// Somebody else has it now; later it is free.
    Busy,
    /// What is needed is not there: a program, a file, a mount, a part of an application.
    Missing,
    /// It is not done because it would do harm, or another side refuses it.
    Refused,
    /// What was read is not what was written.
    Damaged,
    /// The repository is gone, or something else is in its place.
    Lost,
    /// Snapshots are gone from a repository that nobody here forgot.
    Vanished,
    /// Snapshots were written anew by somebody else.
    Altered,
    /// A repository knows of later runs than the state does.
    Older,
    /// The clock of this host is not to be relied on.
    Clock,
    /// No room for now: on a disk, in memory, in a queue.
    Full,
    /// A bound was reached: more, or larger, than is read or kept.
    TooLarge,
    /// It cannot be read or written, for any other reason.
    Io,
    /// The other side answered with an error or something that was not expected.
    Failed,
    /// It is done, and something is left out, left behind or not proven.
    Incomplete,
    /// Old backups stay until it is well again or somebody accepts it.
    Held,
    /// A version, form or feature that is not dealt with.
    Unsupported,
    /// A fault of Larder, or of a plugin.
    Internal,
}

impl Kind {
    /// Nothing was found to be wrong with what is asked for: somebody else has it now, or there is no room for it yet.
    /// A run that ends so is deferred.
    #[must_use]
    pub const fn waits(self) -> bool {
        matches!(self, Self::Busy | Self::Full)
    }

    /// Who was asked did not answer; a restart or a line that broke is over in minutes. A scheduled run that ends so has
    /// failed, and is tried again before its next slot.
    #[must_use]
    pub const fn passes(self) -> bool {
        matches!(self, Self::Unreachable | Self::Hanging)
    }

    /// Said of a destination: it does not answer or is not mounted. One that took too long is not away.
    #[must_use]
    pub const fn is_away(self) -> bool {
        matches!(self, Self::Unreachable | Self::Away)
    }

    /// The repository answers, and its snapshots are not what the state knows of them.
    #[must_use]
    pub const fn is_of_snapshots(self) -> bool {
        matches!(self, Self::Vanished | Self::Altered | Self::Older)
    }
}

/// A code of the registry ([`super::codes`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code {
    name: &'static str,
    kind: Kind,
    meaning: &'static str,
}

impl Code {
    /// For the registry only.
    pub(super) const fn new(name: &'static str, kind: Kind, meaning: &'static str) -> Self {
        Self { name, kind, meaning }
    }

    /// Lower-case, with underscores: `wrong_password`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }

    #[must_use]
    pub const fn kind(self) -> Kind {
        self.kind
    }

    /// One phrase.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        self.meaning
    }
}

impl PartialEq<&str> for Code {
    fn eq(&self, other: &&str) -> bool {
        self.name == *other
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}
