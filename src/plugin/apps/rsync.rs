//! The plugin `rsync`: paths of another device over ssh, into a copy on this host that is shipped from where it lies.
//!
//! The copy stays from run to run, so only what changed goes over the network, and what is shipped lies at the same path
//! in every run. Before anything is deleted in it, a dry run tells what the other side has: a disk that is not mounted
//! there looks like one from which everything was deleted.

use crate::plugin::kit::builtin::{Builtin, Restore};

mod capture;
mod changes;
mod ends;
mod remote;
mod restore;
mod settings;
mod stats;
mod validate;

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "rsync",
    summary: "Paths of another device over ssh, by rsync",
    guide: GUIDE,
    schema: || schemars::schema_for!(settings::RsyncSettings).to_value(),
    capture: capture::capture,
    validate: validate::validate,
    restore: Some(Restore::by::<restore::PutBack>()),
    recover: Some(restore::undo::recover),
};

const GUIDE: &str = "
In the backup: the named paths with their rights, owners, times, links, ACLs and extended attributes as far as both sides
can, by way of a copy on this host (`copy`), which is brought up to date and then shipped.

Not in it: what the login may not read there (told as a warning, the run is partial then), and an instant: files that
change while they are read may be of different moments. Databases that were written to lately are recognised: SQLite ones
are checked, of the others the run says that nobody can vouch for them. Use their own plugin.

What changed is found by size and time, as rsync does: a file that got other content and kept both is not fetched again. A
restore reads both sides whole and compares their content.

Least privilege: a login of its own on the device, with a key of its own that may only read:
  restrict,command=\"rrsync -ro /\" ssh-ed25519 AAAA…   in ~/.ssh/authorized_keys there
rsync is needed on both sides. The host's key must be in `known_hosts` (`ssh-keyscan -p PORT HOST`, compared with the
device's own): a device with another key is refused. To keep owners, the daemon should be root here.

Restore: `larder restore TARGET --into TARGET`, first with --dry-run, sends the files back to their paths. The login needs
the right to read all of them and to write then: where not everything can be compared, nothing is begun. What `exclude`
names by now is left alone, also where the backup has it (patterns that begin with a slash aside): that is told, with a
warning where the device has it not, and where it lies in the data directory of a server: that reads it with what was sent,
so such a restore is not called proven. A `-wal`, `-shm` or `-journal` goes with its database or not at all. The device
needs room for both: all of it is there before the first old file gives way, and what gives way is kept in a directory
`.larder-before-…` there, to be removed by hand. The state directory here needs room for the files that get only other
rights, owners or times: they are noted there with their content until the restore ends. When something fails, also when
Larder is killed, the old files come back from that directory, and it goes only when each of them lies at its place again.
What stands in their way, or where only the backup has something, may be yours by then: it is kept in a directory
`.larder-undone-…` there and told, to be looked at and removed by hand.
What the backup has not stays and is told; only what a database of the backup would read (a stale `-wal`, in the data
directory of a server all that `exclude` does not name), and what stands where a file of the backup goes, is moved there too.
So stop what works with a database first: if such a file is back after the transfer, everything is put back; if a new one
has appeared, the restore is not called proven. In more than 5,000,000 files not each one is looked at for databases: then
nothing is called proven either. Or `larder restore TARGET --to DIR`.";
