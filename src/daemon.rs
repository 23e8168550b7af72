//! The daemon: opens the state, mends what a crash left, then turns until it is told to stop.

mod acceptance;
mod away;
mod catch_up;
mod checkups;
mod copies;
mod discover;
mod finish;
mod first_test;
mod forget;
mod holds;
mod housekeeping;
mod keeper;
mod lacking;
mod lock_watch;
mod locks_due;
mod object_locks;
mod pages;
mod probe;
mod queries;
mod reconcile;
mod recover;
mod requests;
mod restore;
mod returns;
mod rewind;
mod sealed;
mod source_watch;
mod state_watch;
mod statistics;
pub(crate) mod stop;
mod undo;
mod upkeep;
mod values;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::{Clock, SystemClock};
use crate::config::Loader;
use crate::daemon::keeper::Keeper;
use crate::daemon::reconcile::{Reconciler, Watched};
use crate::error::{Trouble, codes};
use crate::look;
use crate::plugin::Catalogue;
use crate::rpc::access::{Hosts, Tokens};
use crate::rpc::{Bounds, Listeners, Rpc};
use crate::runner::control::Control;
use crate::runner::world::{World, WorldParts};
use crate::store::ledger::Ledger;
use crate::store::sled_store::SledStore;

/// How long a stopping daemon waits for what serves and tells, behind the runs.
const STOP_MAX: Duration = Duration::from_secs(3);

/// How long the directory with plugins may take to answer at the start.
const PLUGINS_MAX: Duration = Duration::from_mins(1);

/// What the daemon is started with; all of it outside Git.
#[derive(Clone, Debug)]
pub struct Settings {
    pub state: PathBuf,
    pub repository: PathBuf,
    pub branch: String,
    pub root: String,
    /// None: the local socket only.
    pub listen: Option<SocketAddr>,
    pub read_tokens: Vec<SecretString>,
    pub control_tokens: Vec<SecretString>,
    pub plugins: Option<PathBuf>,
    pub restic: Option<PathBuf>,
    pub poll: Duration,
    /// The age identity that opens what is encrypted in Git; none: what `sops` would take.
    pub identity: Option<PathBuf>,
}

/// Runs the daemon until SIGTERM, SIGINT or `cancel`.
///
/// # Errors
/// When the state cannot be opened or a port cannot be taken; once it turns it ends without one.
pub async fn serve(settings: Settings, cancel: CancellationToken) -> Result<(), Trouble> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let opened = SledStore::open(&settings.state).map_err(|error| error.trouble())?;
    let watched_state = state_watch::Opened::look(&opened.state);
    let ledger = Ledger::new(Arc::new(opened.store));
    let program = std::env::current_exe()
        .map_err(|error| Trouble::new(codes::NO_PROGRAM, format!("cannot tell where larder itself is: {error}")))?;
    let catalogue = Arc::new(catalogue(settings.plugins.clone(), program).await?);
    let listeners = bind(&settings, &opened.state.socket()).await?;
    let world = Arc::new(World::new(WorldParts {
        ledger: ledger.clone(),
        clock: clock.clone(),
        catalogue: catalogue.clone(),
        paths: opened.state,
        state_id: opened.state_id,
        restic_program: settings.restic.clone(),
    }));
    let config = Arc::new(ledger.desired().map_err(|error| error.trouble())?);
    let record = ledger.config_record().map_err(|error| error.trouble())?;
    sealed::at_start(&settings, &world.paths, record.applied.as_ref().map(|applied| applied.revision.clone())).await;
    let jobs = recover::recover(&world, &config).await?;
    announce_restic(&world).await;

    let reconciler = Reconciler::new(
        Watched { path: settings.repository.clone(), branch: settings.branch.clone(), root: settings.root.clone() },
        Loader::new(catalogue).with_keyring(sealed::keyring(&settings)),
        config.clone(),
        record,
    );
    let (config_sender, config) = watch::channel(config);
    let (control, requests) = Control::channel();
    let keeper = Keeper::new(world.clone(), reconciler, jobs, config_sender);
    run(Parts { settings, world, watched_state, config, control, listeners, keeper }, requests, cancel).await
}

struct Parts {
    settings: Settings,
    world: Arc<World>,
    watched_state: state_watch::Opened,
    config: watch::Receiver<Arc<crate::config::model::Config>>,
    control: Control,
    listeners: Listeners,
    keeper: Keeper,
}

async fn run(
    parts: Parts,
    requests: tokio::sync::mpsc::Receiver<crate::runner::control::Request>,
    cancel: CancellationToken,
) -> Result<(), Trouble> {
    let Parts { settings, world, watched_state, config, control, listeners, keeper } = parts;
    let tasks = TaskTracker::new();
    // What serves and tells outlives the keeper, so that the last outcome is still shown and sent.
    let serving = CancellationToken::new();
    let (changed, mail) = (keeper.changed.clone(), keeper.mail.clone());
    let (seen, shown) = (keeper.seen.clone(), keeper.changed.clone());
    let locks_seen = keeper.changed.clone();
    let looks = crate::source::watch::watch(&settings.repository, &settings.branch, settings.poll, cancel.clone());

    let server = Rpc {
        ledger: world.ledger.clone(),
        live: world.live.clone(),
        control,
        operations: world.operations.clone(),
        queries: Arc::new(queries::Repositories::new(world.clone(), config.clone(), serving.clone())),
        tokens: Arc::new(Tokens { read: settings.read_tokens.clone(), control: settings.control_tokens.clone() }),
        hosts: Hosts::default(),
        pages: world.paths.pages().join(crate::status::pages::CURRENT),
        logs: world.paths.logs(),
        clock: world.clock.clone(),
        readiness: keeper.readiness.clone(),
        started: world.clock.now(),
        bounds: Bounds::default(),
    };
    tasks.spawn(crate::rpc::serve(server, listeners, serving.clone()));
    tasks.spawn(pages::keep(world.clone(), changed, serving.clone()));
    tasks.spawn(crate::alert::deliver(
        world.ledger.clone(),
        config.clone(),
        world.clock.clone(),
        mail,
        serving.clone(),
    ));
    tasks.spawn(discover::keep(world.clone(), config.clone(), seen, shown, serving.clone()));
    tasks.spawn(state_watch::keep(
        world.clone(),
        watched_state,
        config.clone(),
        keeper.readiness.clone(),
        keeper.changed.clone(),
        serving.clone(),
    ));
    tasks.spawn(housekeeping::keep(world.clone(), serving.clone()));
    tasks.spawn(lock_watch::keep(world.clone(), config.clone(), locks_seen, serving.clone()));
    stop::on_signal(cancel.clone());
    tasks.spawn(recover::look_for_stragglers(
        world.state_id.clone(),
        crate::process::Spared::new(world.paths.spared()),
        serving.clone(),
    ));
    let tell = undo::teller(config.clone(), keeper.changed.clone(), keeper.mail.clone());
    tasks.spawn(crate::runner::journal::keep_recovering(world.clone(), tell, serving.clone()));
    tasks.close();

    tracing::info!(repository = %settings.repository.display(), branch = settings.branch, "daemon ready");
    // On the thread that started the runtime, which is none of its workers: when the keeper waits for the disk, nobody else does.
    keeper.turn(requests, looks, cancel).await;
    serving.cancel();
    if tokio::time::timeout(STOP_MAX, tasks.wait()).await.is_err() {
        tracing::warn!("some tasks did not end in time");
    }
    housekeeping::export_at_the_end(world).await;
    crate::look::end_all();
    tracing::info!("larder stopped");
    Ok(())
}

async fn catalogue(plugins: Option<PathBuf>, program: PathBuf) -> Result<Catalogue, Trouble> {
    let Some(directory) = plugins else { return Catalogue::discover(crate::plugin::ALL, None, &program) };
    let looked = directory.clone();
    look::at(&directory, PLUGINS_MAX, move || Catalogue::discover(crate::plugin::ALL, Some(&looked), &program))
        .await
        .unwrap_or_else(|silent| Err(silent.trouble(codes::PLUGINS_HANGING, "the plugin directory")))
}

async fn announce_restic(world: &World) {
    match world.restic().await {
        Ok(restic) => tracing::info!(version = %restic.version(), "restic found"),
        // No reason not to start: everything but shipping works, and each run says it.
        Err(error) => tracing::error!(trouble = %error.trouble(), "restic cannot be used"),
    }
}

async fn bind(settings: &Settings, socket: &Path) -> Result<Listeners, Trouble> {
    let tcp = match settings.listen {
        Some(address) => Some(TcpListener::bind(address).await.map_err(|error| port_trouble(address, &error))?),
        None => None,
    };
    let unix = crate::rpc::bind_unix(socket).map_err(|error| {
        Trouble::new(codes::CANNOT_LISTEN, format!("cannot make the socket {}: {error}", socket.display()))
            .with_hint("the state directory must be writable, and its path shorter than 100 bytes")
    })?;
    Ok(Listeners { tcp, unix: Some(unix) })
}

fn port_trouble(address: SocketAddr, error: &std::io::Error) -> Trouble {
    let trouble = Trouble::new(codes::CANNOT_LISTEN, format!("cannot listen on {address}: {error}"));
    match error.kind() {
        std::io::ErrorKind::AddrInUse => trouble.with_hint(format!(
            "something else uses port {0}: see `ss -ltnp 'sport = :{0}'`, or choose another with --listen",
            address.port()
        )),
        std::io::ErrorKind::PermissionDenied => {
            trouble.with_hint("ports below 1024 need root; choose another with --listen")
        }
        _ => trouble.with_hint("choose another address with --listen, or `--listen none` for the local socket only"),
    }
}
