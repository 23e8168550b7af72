//! One port: pages, metrics, health, JSON-RPC over HTTP and WebSocket; the same on a Unix socket for local programs.
//!
//! Reads go to the ledger and the live board, commands to the daemon's task through `Control`; nothing is decided here.
//! Everything is bounded: connections, headers, bodies, batches, subscriptions, silence, stalled writes, the drain.

pub mod access;

mod acting;

pub mod document;

mod echo;

mod frames;

mod front;

mod ids;

mod log_tail;

mod methods;

pub mod queries;

mod reading;
mod register;

pub mod ready;

mod stream;

mod subscribe;

pub mod wire;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use jsonrpsee::server::{BatchRequestConfig, PingConfig, Server, ServerConfig, StopHandle, stop_channel};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use methods::committed_openrpc;

use crate::clock::Clock;
use crate::rpc::access::{Hosts, Tokens};
use crate::rpc::echo::EchoStream;
use crate::rpc::front::{Front, Peer};
use crate::rpc::queries::Queries;
use crate::rpc::ready::Readiness;
use crate::rpc::stream::{Activity, PatientStream};
use crate::runner::control::Control;
use crate::runner::live::Live;
use crate::runner::operations::Operations;
use crate::store::ledger::Ledger;

/// Everything that the server needs; a clone is the same server.
#[derive(Clone)]
pub struct Rpc {
    pub ledger: Ledger,
    pub live: Live,
    pub control: Control,
    pub operations: Operations,
    pub queries: Arc<dyn Queries>,
    pub tokens: Arc<Tokens>,
    pub hosts: Hosts,
    /// What [`crate::status::pages::Pages::current`] says.
    pub pages: PathBuf,
    /// Where each run's log is: `<run>.log`.
    pub logs: PathBuf,
    pub clock: Arc<dyn Clock>,
    pub readiness: Readiness,
    pub started: Timestamp,
    pub bounds: Bounds,
}

/// The bounds of one listener.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Open connections of each kind (TCP, Unix); more are closed at once.
    pub connections: usize,
    pub body_bytes_max: usize,
    pub response_bytes_max: u32,
    pub batch_calls_max: u32,
    pub subscriptions_per_connection: u32,
    /// Updates that wait for one slow subscriber before it skips some.
    pub updates_buffered: u32,
    /// For the first request's whole header.
    pub header: Duration,
    /// Between requests on one connection.
    pub idle: Duration,
    pub body: Duration,
    /// A peer that takes nothing for this long is dropped.
    pub write_stall: Duration,
    pub ping: Duration,
    /// For what is in progress when the server is told to stop.
    pub drain: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 128,
            body_bytes_max: 1 << 20,
            response_bytes_max: 8 << 20,
            batch_calls_max: 50,
            subscriptions_per_connection: 16,
            updates_buffered: 256,
            header: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            body: Duration::from_secs(10),
            write_stall: Duration::from_secs(20),
            ping: Duration::from_secs(30),
            drain: Duration::from_secs(10),
        }
    }
}

/// Where connections come from; both are optional.
#[derive(Debug, Default)]
pub struct Listeners {
    pub tcp: Option<TcpListener>,
    pub unix: Option<UnixListener>,
}

/// Serves until `cancel`; returns when what was in progress is done, or after [`Bounds::drain`].
pub async fn serve(rpc: Rpc, listeners: Listeners, cancel: CancellationToken) {
    let (stop, handle) = stop_channel();
    let connections = TaskTracker::new();
    let methods = methods::module(&rpc);
    let bounds = rpc.bounds;
    let front = |peer: Peer| {
        let builder = Server::builder().set_config(config(&bounds)).to_service_builder();
        Front::new(rpc.clone(), peer, methods.clone(), stop.clone(), builder)
    };
    let tcp = async {
        let Some(listener) = listeners.tcp else { return };
        let (front, seats) = (front(Peer::Tcp), seats(&bounds));
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // Answers are small and complete: waiting for more to send would only delay them.
                    let _ = stream.set_nodelay(true);
                    take_seat(&connections, &seats, stream, &front, &bounds, &stop);
                }
                Err(error) => accept_failed(&error).await,
            }
        }
    };
    let unix = async {
        let Some(listener) = listeners.unix else { return };
        let (front, seats) = (front(Peer::Unix), seats(&bounds));
        loop {
            match listener.accept().await {
                Ok((stream, _)) => take_seat(&connections, &seats, stream, &front, &bounds, &stop),
                Err(error) => accept_failed(&error).await,
            }
        }
    };
    tokio::select! {
        () = cancel.cancelled() => {}
        ((), ()) = async { tokio::join!(tcp, unix) } => cancel.cancelled().await,
    }
    let _ = handle.stop();
    drop(stop);
    connections.close();
    let drained = async {
        connections.wait().await;
        handle.stopped().await;
    };
    if tokio::time::timeout(bounds.drain, drained).await.is_err() {
        tracing::warn!("connections were still open after {:?}, left behind", bounds.drain);
    }
}

/// The names of all methods that are served, for whoever compares them with the document.
#[must_use]
pub fn method_names(rpc: &Rpc) -> Vec<&'static str> {
    methods::module(rpc).method_names().collect()
}

/// Binds the Unix socket at `path`, readable and writable by this user only; replaces one that nobody listens on.
///
/// # Errors
/// When another daemon listens there, or the path cannot be used.
pub fn bind_unix(path: &Path) -> std::io::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        let text = format!("another daemon listens on {}", path.display());
        return Err(std::io::Error::new(std::io::ErrorKind::AddrInUse, text));
    }
    // Bound under another name first, so the socket is never there with wider permissions.
    let fresh = path.with_extension(format!("new-{}", std::process::id()));
    let _ = std::fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&fresh, path)?;
    Ok(listener)
}

fn config(bounds: &Bounds) -> ServerConfig {
    let ping = PingConfig::new().ping_interval(bounds.ping).inactive_limit(bounds.ping * 2).max_failures(2);
    ServerConfig::builder()
        .max_connections(u32::try_from(bounds.connections).unwrap_or(u32::MAX))
        // Ids are longer inside; what comes from outside is bounded before.
        .max_request_body_size(u32::try_from(bounds.body_bytes_max.saturating_mul(2)).unwrap_or(u32::MAX))
        .max_response_body_size(bounds.response_bytes_max)
        .set_batch_request_config(BatchRequestConfig::Limit(bounds.batch_calls_max))
        .max_subscriptions_per_connection(bounds.subscriptions_per_connection)
        .set_message_buffer_capacity(bounds.updates_buffered)
        .enable_ws_ping(ping)
        .build()
}

fn seats(bounds: &Bounds) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(bounds.connections))
}

/// Serves `stream` in a task of its own, or closes it when every seat is taken.
fn take_seat<S>(
    connections: &TaskTracker,
    seats: &Arc<Semaphore>,
    stream: S,
    front: &Front,
    bounds: &Bounds,
    stop: &StopHandle,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Ok(seat) = Arc::clone(seats).try_acquire_owned() else {
        tracing::debug!("every connection's seat is taken");
        return;
    };
    let activity = Activity::default();
    let stream = PatientStream::new(stream, activity.clone(), bounds);
    let stream = EchoStream::new(stream, activity.clone(), bounds);
    let front = front.clone();
    let stop = stop.clone();
    connections.spawn(async move {
        if let Err(error) = converse(stream, front, activity, stop).await {
            tracing::debug!(%error, "a connection ended early");
        }
        drop(seat);
    });
}

/// Answers what comes in on `stream` until it ends, or the request that is being answered when the server stops.
///
/// HTTP/1.1 alone: WebSockets need it, and what speaks HTTP/2 has HAProxy before us.
async fn converse<S>(stream: S, front: Front, activity: Activity, stop: StopHandle) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = hyper::service::service_fn(move |request| {
        let (front, activity) = (front.clone(), activity.clone());
        async move { front.answer(request, &activity).await }
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection.with_upgrades());
    tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.shutdown() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

/// Out of descriptors, most likely: waits instead of turning in circles.
async fn accept_failed(error: &std::io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(Duration::from_millis(200)).await;
}
