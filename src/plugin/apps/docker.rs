//! The plugin `docker`: a compose project, containers or volumes, through the engine's own API.
//!
//! Volumes are streamed out of the engine as tars and databases are dumped by their own clients, so it works without
//! access to the host's files, also through a socket proxy and for stopped containers. That is the default, and not the
//! shipping in place, for two reasons: what was stopped is started again before the engine of the snapshots would read
//! a source, and a volume's mountpoint belongs to root. `in_place` is for volumes too large to be staged.

use std::path::Path;
use std::time::Duration;

use crate::error::codes;
use crate::plugin::kit::builtin::{Builtin, Failure, Restore};

pub(crate) mod api;
mod attributes;
mod capture;
mod choose;
mod compose;
mod content;
pub(crate) mod database;
mod describe;
mod exec;
mod halt;
mod holes;
pub(crate) mod inventory;
mod list;
mod load;
mod member;
mod put;
mod rdb;
mod read;
mod recover;
mod restore;
mod server;
pub(crate) mod settings;
mod stack_files;
mod still;
mod stock;
mod validate;

use capture::Work;
use settings::DockerSettings;

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "docker",
    summary: "compose projects, containers and volumes through the container engine's API",
    guide: GUIDE,
    schema: || schemars::schema_for!(DockerSettings).to_value(),
    capture: capture::capture,
    validate: validate::validate,
    restore: Some(Restore::by::<restore::PutBack>()),
    recover: Some(recover::recover),
};

const GUIDE: &str = "
In the backup: each volume, and each bind mount below the compose project's directory, as a tar (volumes/, binds/);
a native dump of each PostgreSQL, MariaDB, MySQL and Redis that runs in a container (dumps/), made by the client inside
it; the compose and env files that the containers' labels name, and what these name in turn (`env_file`, `include`,
`extends`, `configs`, `secrets`), where they are on this host (files/); for each container what is needed to make it again
(containers/): image and digest, labels, mounts, environment, networks, restart policy. It holds passwords: the
environment of containers usually does.

Not in it: images (they are pulled again by the digest that is kept, or built again) and directories that they are built
from; the writable layer of containers; bind mounts elsewhere on the host (see `binds`, or use `files`); data directories
of databases that have a dump (`database_volumes: true` keeps them too); in a volume's tar, what another mount covers in
the container that it is read through. inventory.json names all of it. What nobody asked to leave out is a warning, and
the run is partial until the config says otherwise (`accept`): bind mounts outside of the project, files among those of a
database, databases and users that its login cannot dump, an empty volume, a database that is empty or gone.

With `stop: none` volumes are read while they are in use: each file as it was when it was read, not all of one instant.
Databases among the files are recognised then. SQLite ones are kept as SQLite's online backup copies them where the
volume lies on this host, else they are read until two readings are the same; of others, and where that does not come
about, the run says that nobody can vouch for them. Use `stop: stop` where that matters; `pause` freezes programs but
does not make them write what they hold in memory. A container that was started with `--rm` is never stopped: the engine
would remove it.

Docker hands out files without extended attributes and ACLs, and Podman with the owner that the container runs as. So
there the volumes' directories are read by the host's `tar` where the daemon's user may (as root); it is said where not.

Least privilege: who may open the engine's socket is root on that host. Put a socket proxy before it (such as
tecnativa/docker-socket-proxy) and give `socket: http://HOST:2375`. It needs to allow PING, VERSION, CONTAINERS, VOLUMES,
IMAGES (GET only: containers/*, volumes/*, images/*); POST and ALLOW_STOP, ALLOW_START (`stop: stop`) or ALLOW_PAUSE,
ALLOW_UNPAUSE (`stop: pause`); EXEC and POST for database dumps; POST (with PUT of containers/*/archive) for a restore
only. Without POST, say `databases: off` and `stop: none`. GET of containers/*/archive reads every file of every
container.

What is stopped is noted in a journal first and started again whatever happens: also when Larder is killed.

Restore: `larder restore TARGET --into TARGET` puts volumes, binds, compose files and dumps of databases back, all of them
or none: each is made ready beside what is there and compared, the containers stand still while all of them change places,
and on a failure, also when Larder is killed, everything is what it was before a container starts. A volume is exactly what
the backup has then; what was in it is kept beside it (`_data.before-…`, to be removed by hand). As root on the engine's
host owners, modes and attributes come back too; elsewhere the engine unpacks it, which can remove no file: what stays or is
not kept is told. What other mounts of a container cover is not written to. A dump is loaded under a temporary name by the
client in the container, compared, and takes the live database's place: PostgreSQL's by their names, those of MariaDB and
MySQL by one renaming of all their tables (where the user has one database only, they get other names in it until the new
ones are compared).
Roles and users that are missing are made, those that are there stay (of MySQL by hand). A Redis or Valkey stands still, reads
the dump at its start (as the base of its append-only file where it keeps one) and is compared; the old dump stays beside.
Where the containers are gone it first puts back the compose files and says what to type.";

/// How long the engine may be silent in the middle of an answer: pg_dump may think for a while.
const PATIENCE: Duration = Duration::from_mins(30);
const INVENTORY: &str = "inventory.json";
const FORMAT_TAR: &str = "tar";

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    let failure = |code| Failure::new(code, format!("{} cannot be written: {error}", path.display()));
    if error.kind() == std::io::ErrorKind::StorageFull {
        failure(codes::DISK_FULL).hint("make room where the artifacts lie; nothing half-written is kept")
    } else {
        failure(codes::UNWRITABLE)
    }
}
