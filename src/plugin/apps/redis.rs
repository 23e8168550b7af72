//! The plugin `redis`: what it says of itself. Its work is in `kit/database/redis`, which others use as well.

use crate::plugin::kit::builtin::{Builtin, Restore};
use crate::plugin::kit::database::redis;

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "redis",
    summary: "Redis and Valkey, all databases of an instance as one RDB file",
    guide: GUIDE,
    schema: || schemars::schema_for!(redis::RedisSettings).to_value(),
    capture: redis::capture,
    validate: redis::validate,
    restore: Some(Restore::by::<redis::restore::Redis>()),
    recover: None,
};

const GUIDE: &str = "
In the backup: dump.rdb with every database of the instance (keys, values, times to live, functions) as of one instant.

Not in it: redis.conf and the ACL file (use `files`), what was written after that instant, the AOF, other nodes of a
cluster (a target for each).

Least privilege: ACL SETUSER backup on >… resetkeys resetchannels -@all +ping +info +sync +psync +replconf
With `method: bgsave` instead: … -@all +ping +info +bgsave +lastsave, and read permission on `rdb_file`.

It needs redis-cli and redis-check-rdb (Debian: redis-tools), not older than the server's RDB format. The password
reaches redis-cli by its environment.

Restore: a running instance writes its own data over the file when it stops, so it must be stopped first, and Larder
does not stop it. Then `larder restore TARGET --into TARGET --option dir=/var/lib/redis` puts the file in place at once
and keeps the old one beside it as dump.rdb.before-<run>. Where there is an AOF, Redis reads that and not the RDB file:
`set_aside_aof: true` renames it; start Redis with `appendonly no`, look at the data, then CONFIG SET appendonly yes
and set it in redis.conf again.

Start the instance while Larder waits (`wait`), before anything writes to it: Larder takes a snapshot as for a backup and
compares every value and time to live with the backup. It does that in a redis-server of its own (Debian: redis-server)
with room in memory for the data twice. Nothing is written on your instance. `--option compare_only=true` does only this,
at any later time; with `method: bgsave` it is the only way, since the instance saves its file for it.";
