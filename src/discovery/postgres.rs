//! What `larder init` asks a PostgreSQL server: whether it is one, and whether it lets somebody in without a password.

use std::io::ErrorKind::{TimedOut, WouldBlock};
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::plugin::kit::database::postgres::server::Server;
use crate::plugin::kit::database::postgres::{MAINTENANCE, PostgresSettings};

/// Whoever may do this has all of every database.
const READS_ALL: &str = "SELECT rolsuper OR EXISTS (SELECT FROM pg_roles r WHERE r.rolname = 'pg_read_all_data' \
                         AND pg_has_role(r.oid, 'USAGE')) FROM pg_roles WHERE rolname = current_user";
/// The packet by which a client asks for TLS; a server answers `S` or `N`, and forgets who hangs up then.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// How long it says nothing more.
const QUIET: Duration = Duration::from_millis(300);

/// Whether a server answers; `host` may be the directory of its socket.
pub(crate) fn answers(host: &str, port: u16) -> bool {
    if host.starts_with('/') {
        return std::os::unix::net::UnixStream::connect(Path::new(host).join(format!(".s.PGSQL.{port}"))).is_ok();
    }
    let ask = |address| -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, ANSWER_MAX)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.write_all(&SSL_REQUEST)?;
        let mut answer = [0];
        stream.read_exact(&mut answer)?;
        // One byte, then it waits: an sshd begins with an S as well, and goes on.
        stream.set_read_timeout(Some(QUIET))?;
        let is_quiet = stream.read(&mut [0]).is_err_and(|error| matches!(error.kind(), WouldBlock | TimedOut));
        Ok(matches!(answer, [b'S' | b'N']) && is_quiet)
    };
    let addresses = (host, port).to_socket_addrs().into_iter().flatten();
    addresses.take(4).any(|address| ask(address).unwrap_or(false))
}

/// Whether `user` may read every database there without a password in the settings.
pub(crate) fn reads_all(host: &str, port: u16, user: &str) -> bool {
    let settings = json!({ "host": host, "port": port, "user": user, "all": true, "connect_timeout": 3 });
    let Ok(settings) = serde_json::from_value::<PostgresSettings>(settings) else { return false };
    let Ok(directory) = tempfile::tempdir() else { return false };
    let server = Server::connect(&settings, directory.path(), MAINTENANCE);
    server.and_then(|server| server.query(MAINTENANCE, READS_ALL)).is_ok_and(|rows| rows == ["t"])
}
