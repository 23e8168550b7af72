//! A server on a port and a socket of its own, with a task that answers commands as the daemon would.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use jsonrpsee::ws_client::{HeaderMap, WsClient, WsClientBuilder};
use larder::clock::ManualClock;
use larder::config::model::{Hooks, OnMissed, Policy, Retention, ScheduleSpec, Site, Target};
use larder::error::Trouble;
use larder::rpc::access::{Hosts, Tokens};
use larder::rpc::queries::{Answer, Queries};
use larder::rpc::ready::Readiness;
use larder::rpc::wire::snapshots::{SnapshotInfo, SnapshotListParams};
use larder::rpc::wire::{FileInfo, FindParams, FoundFile, SnapshotFilesParams};
use larder::rpc::{Bounds, Listeners, Rpc, bind_unix, serve};
use larder::run::RunState;
use larder::runner::control::{Control, PlanText, ReconcileResult, Reconciled, Request};
use larder::runner::live::{Live, RunUpdate};
use larder::runner::operations::Operations;
use larder::status::View;
use larder::status::pages::write_pages;
use larder::status::read::{Depth, Reading};
use larder::store::Batch;
use larder::store::ledger::Ledger;
use larder::store::memory::MemoryStore;
use larder::store::record::{Applied, ConfigRecord, JobRecord, RunEvent, RunRecord, RunSummary, Trigger};
use larder::types::{JobId, Name, Outcome, Revision, RunId};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub const READ: &str = "a-token-for-reading";
pub const CONTROL: &str = "a-token-for-steering";

pub struct TestSite {
    pub address: SocketAddr,
    pub socket: PathBuf,
    pub rpc: Rpc,
    pub live: Live,
    pub readiness: Readiness,
    /// Of `photos`, oldest first.
    pub runs: Vec<RunId>,
    pub cancel: CancellationToken,
    pub runtime: tokio::runtime::Runtime,
    pub server: Option<tokio::task::JoinHandle<()>>,
    pub directory: tempfile::TempDir,
}

pub fn now() -> Timestamp {
    "2026-11-22T06:00:00Z".parse().unwrap()
}

pub fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub fn tokens() -> Tokens {
    Tokens { read: vec![READ.into()], control: vec![CONTROL.into()] }
}

impl TestSite {
    pub fn start() -> Self {
        Self::with(tokens(), Bounds::default())
    }

    pub fn with(tokens: Tokens, bounds: Bounds) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (ledger, runs) = filled();
        let live = Live::default();
        let pages = directory.path().join("pages");
        write_pages(&pages, &View::build(&Reading::take(&ledger, &live, Depth::Strips, now()).unwrap(), now()))
            .unwrap();
        let logs = directory.path().join("logs");
        std::fs::create_dir(&logs).unwrap();
        std::fs::write(logs.join(format!("{}.log", runs[0])), "first line\nlast line\n").unwrap();
        std::fs::write(directory.path().join("secret"), "not for you").unwrap();

        let (control, requests) = Control::channel();
        let (operations, readiness, cancel) = (Operations::default(), Readiness::default(), CancellationToken::new());
        let rpc = Rpc {
            ledger,
            live: live.clone(),
            control,
            operations: operations.clone(),
            queries: Arc::new(FakeRepository),
            tokens: Arc::new(tokens),
            hosts: Hosts::default(),
            pages: pages.join("current"),
            logs,
            clock: Arc::new(ManualClock::at(now())),
            readiness: readiness.clone(),
            started: now(),
            bounds,
        };
        let socket = directory.path().join("larder.sock");
        let (address, server) = runtime.block_on(async {
            tokio::spawn(fake_daemon(requests, operations));
            let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = tcp.local_addr().unwrap();
            let unix = bind_unix(&socket).unwrap();
            let listeners = Listeners { tcp: Some(tcp), unix: Some(unix) };
            (address, tokio::spawn(serve(rpc.clone(), listeners, cancel.clone())))
        });
        Self { address, socket, rpc, live, readiness, runs, cancel, runtime, server: Some(server), directory }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends `request` as it is and reads all that comes until the server closes.
    pub fn raw(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub fn get(&self, path: &str) -> String {
        self.raw(&format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address))
    }

    pub fn post(&self, headers: &str, body: &str) -> String {
        self.raw(&format!(
            "POST /rpc HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            self.address,
            body.len()
        ))
    }

    pub fn call_with(&self, token: &str, method: &str, params: &Value) -> Value {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        let headers = format!("Content-Type: application/json\r\nAuthorization: Bearer {token}\r\n");
        let answer = self.post(&headers, &body);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        serde_json::from_str(body_of(&answer)).unwrap()
    }

    pub fn call(&self, method: &str, params: &Value) -> Value {
        let answer = self.call_with(CONTROL, method, params);
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    pub async fn websocket(&self) -> WsClient {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {READ}").parse().unwrap());
        WsClientBuilder::default().set_headers(headers).build(format!("ws://{}/rpc", self.address)).await.unwrap()
    }
}

pub fn update(run: RunId, state: RunState) -> RunUpdate {
    let job = JobId { target: name("photos"), policy: name("daily") };
    RunUpdate { run, job, at: now(), state, detail: None, bytes_done: 1, bytes_total: 2 }
}

impl Drop for TestSite {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

pub fn status_of(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

pub fn body_of(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// Two targets with a policy, three finished runs of one, one run in progress.
fn filled() -> (Ledger, Vec<RunId>) {
    let ledger = Ledger::new(Arc::new(MemoryStore::default()));
    let mut batch = Batch::default();
    batch.put_desired_site(&Site { timezone: "Asia/Singapore".to_owned(), ..Site::default() }).unwrap();
    batch.put_desired_policy(&policy()).unwrap();
    let mut runs = Vec::new();
    for target in ["photos", "paperless"] {
        batch
            .put_desired_target(&Target {
                name: name(target),
                plugin: name("files"),
                settings: json!({}),
                policies: vec![name("daily")],
                enabled: true,
                hooks: Hooks::default(),
                accept: Vec::new(),
                tolerate: larder::config::model::Tolerate::default(),
            })
            .unwrap();
        batch.put_job(&job(target)).unwrap();
    }
    for n in 0..4_i64 {
        let at = now() - SignedDuration::from_hours(100 - 24 * n);
        let id = RunId::generate(at);
        let state = if n == 3 { RunState::Capturing } else { RunState::Finished(Outcome::Success) };
        batch
            .put_run(&RunRecord {
                id,
                job: JobId { target: name("photos"), policy: name("daily") },
                trigger: Trigger::Manual,
                revision: None,
                plugin: name("files"),
                state,
                queued: at,
                started: Some(at),
                finished: (n != 3).then_some(at),
                trouble: None,
                warnings: Vec::new(),
                notices: Vec::new(),
                artifact: None,
                shipments: Vec::new(),
                bytes: 7,
            })
            .unwrap();
        batch.push_event(id, 0, &RunEvent { at, state: RunState::Queued, note: None }).unwrap();
        runs.push(id);
    }
    let applied = Applied { revision: Revision::parse(&"a1".repeat(20)).unwrap(), at: now(), took_us: 900 };
    batch.put_config_record(&ConfigRecord { applied: Some(applied), ..ConfigRecord::default() }).unwrap();
    ledger.commit(batch).unwrap();
    (ledger, runs)
}

fn policy() -> Policy {
    Policy {
        name: name("daily"),
        default: true,
        schedule: ScheduleSpec { expression: "0 2 * * *".to_owned(), timezone: "Asia/Singapore".to_owned() },
        jitter: Duration::ZERO,
        retention: Retention { daily: Some(7), ..Retention::default() },
        destinations: vec![name("nas")],
        max_age: Some(Duration::from_hours(26)),
        timeout: Duration::from_hours(1),
        on_missed: OnMissed::Run,
    }
}

fn job(target: &str) -> JobRecord {
    let next: Timestamp = "2026-11-22T18:00:00Z".parse().unwrap();
    let success = RunSummary {
        id: RunId::generate(now()),
        outcome: Outcome::Success,
        finished: now() - SignedDuration::from_hours(4),
        duration_ms: 1000,
        bytes: 7,
        trouble: None,
    };
    let record = json!({
        "id": {"target": target, "policy": "daily"},
        "orphaned_since": null, "schedule_key": "", "next_slot": next, "next_run": next, "last_slot": null,
        "suspended": null, "success_total": 3, "last_run": success, "last_success": success,
    });
    serde_json::from_value(record).unwrap()
}

struct FakeRepository;

impl Queries for FakeRepository {
    fn doctor(&self) -> Answer<Vec<larder::rpc::wire::Checkup>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn snapshots(&self, query: SnapshotListParams) -> Answer<Vec<SnapshotInfo>> {
        let snapshot = |n: i64| SnapshotInfo {
            destination: name("nas"),
            id: format!("{n:064x}"),
            at: now() - SignedDuration::from_hours(n),
            target: query.target.clone(),
            policy: None,
            run: None,
            paths: vec!["/stage".to_owned()],
            bytes: Some(1),
            files: Some(1),
            site: None,
            ours: true,
            future: false,
        };
        let all = (0..5).map(snapshot).collect();
        Box::pin(async move { Ok(all) })
    }

    fn files(&self, _: SnapshotFilesParams) -> Answer<Vec<FileInfo>> {
        let trouble = Trouble::told("wrong_password", "the password of nas is wrong").with_hint("check the secret");
        Box::pin(async { Err(trouble) })
    }

    fn find(&self, _: FindParams) -> Answer<Vec<FoundFile>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// Answers each kind of request in a way that shows what arrived.
async fn fake_daemon(mut requests: tokio::sync::mpsc::Receiver<Request>, operations: Operations) {
    let unchanged = || Reconciled { revision: None, result: ReconcileResult::Unchanged, lines: Vec::new(), took_us: 1 };
    while let Some(request) = requests.recv().await {
        match request {
            Request::StartRun { target, reply, .. } => {
                let unknown = Trouble::told("unknown_target", format!("there is no target {target}"));
                let known = target.as_str() == "photos";
                let _ = reply.send(if known { Ok(vec![RunId::generate(now())]) } else { Err(unknown) });
            }
            Request::CancelRun { reply, .. } | Request::Resume { reply, .. } | Request::Suspend { reply, .. } => {
                let _ = reply.send(Ok(()));
            }
            Request::Accept { value, reply, .. } => {
                let _ = reply.send(Err(Trouble::told("not_held", format!("nothing is held with the value {value:?}"))));
            }
            Request::Reconcile { reply, .. } | Request::Confirm { reply, .. } => {
                let _ = reply.send(Ok(unchanged()));
            }
            Request::Plan { config, reply, .. } => {
                let targets = config.map_or(0, |config| config.targets.len());
                let _ = reply.send(Ok(PlanText { lines: vec![format!("{targets} targets")], plan: json!({}) }));
            }
            Request::Restore { restore, reply } => {
                let _ = reply.send(Ok(operations.start(format!("restore of {}", restore.target), now())));
            }
            Request::Destination { destination, action, reply, .. } => {
                let _ = reply.send(Ok(operations.start(format!("{action:?} of {destination}"), now())));
            }
            Request::Rewind { rewind, reply } => {
                let title = format!("{:?} {} to {}", rewind.act, rewind.destination, rewind.to);
                let _ = reply.send(Ok(operations.start(title, now())));
            }
            Request::TestMail { reply } => {
                let _ = reply.send(Err(Trouble::told("no_email", "the site has no email section")));
            }
        }
    }
}
