//! `run.subscribe`: the live board as notifications. A subscriber that does not keep up skips
//! updates, and one that takes nothing is dropped with its connection, so it costs others nothing.

use std::sync::Arc;

use jsonrpsee::server::{
    PendingSubscriptionSink, RegisterMethodError, SendTimeoutError, SubscriptionMessage, SubscriptionSink,
};
use jsonrpsee::types::Params;
use jsonrpsee::{Extensions, RpcModule};
use serde_json::value::to_raw_value;
use tokio::sync::broadcast::error::RecvError;

use crate::rpc::Rpc;
use crate::rpc::access::Access;
use crate::rpc::register::{Names, Register, allow, parse};
use crate::rpc::wire::RunSubscribeParams;
use crate::run::RunState;
use crate::runner::live::RunUpdate;
use crate::store::record::RunRecord;
use crate::types::RunId;

const RUNS: Names = Names { subscribe: "run.subscribe", update: "run.update", unsubscribe: "run.unsubscribe" };

pub(super) fn register(to: &mut impl Register) {
    to.runs(&RUNS, "Follow runs (WebSocket only): `run.update` for each change, until the run is finished.");
}

pub(super) fn serve(module: &mut RpcModule<Rpc>, names: &Names) -> Result<(), RegisterMethodError> {
    let name = names.subscribe;
    let follow = move |params: Params<'static>,
                       pending: PendingSubscriptionSink,
                       rpc: Arc<Rpc>,
                       extensions: Extensions| async move {
        let params = allow(name, Access::Read, &extensions).and_then(|()| parse::<RunSubscribeParams>(name, &params));
        match params {
            Ok(params) => follow(&rpc, pending, params.run).await,
            Err(error) => pending.reject(error).await,
        }
    };
    module.register_subscription(name, names.update, names.unsubscribe, follow)?;
    Ok(())
}

async fn follow(rpc: &Rpc, pending: PendingSubscriptionSink, only: Option<RunId>) {
    // Subscribed before the board is read: nothing falls between.
    let mut updates = rpc.live.subscribe();
    let Ok(sink) = pending.accept().await else { return };
    let current: Vec<RunUpdate> =
        rpc.live.current().into_iter().filter(|update| only.is_none_or(|run| run == update.run)).collect();
    if let (Some(run), true) = (only, current.is_empty()) {
        // It is over already, or never was: its last word, and the end.
        if let Some(update) = finished(rpc, run).await {
            let _ = send(rpc, &sink, &update).await;
            return;
        }
    }
    for update in current {
        if send(rpc, &sink, &update).await.is_err() {
            return;
        }
    }
    loop {
        let update = tokio::select! {
            () = sink.closed() => return,
            update = updates.recv() => update,
        };
        let update = match update {
            Ok(update) if only.is_none_or(|run| run == update.run) => update,
            Ok(_) => continue,
            // Updates tell the newest state, not steps: what was skipped is told by the next one, but for the end.
            Err(RecvError::Lagged(_)) => match only {
                Some(run) if rpc.live.get(run).is_none() => match finished(rpc, run).await {
                    Some(update) => update,
                    None => return,
                },
                _ => continue,
            },
            Err(RecvError::Closed) => return,
        };
        if send(rpc, &sink, &update).await.is_err() || (only.is_some() && update.state.is_finished()) {
            return;
        }
    }
}

/// Waits for a subscriber that is only slow (it skips updates then) no longer than its connection would be kept.
async fn send(rpc: &Rpc, sink: &SubscriptionSink, update: &RunUpdate) -> Result<(), SendTimeoutError> {
    match to_raw_value(update) {
        Ok(json) => sink.send_timeout(SubscriptionMessage::from(json), rpc.bounds.write_stall).await,
        Err(_) => Ok(()),
    }
}

async fn finished(rpc: &Rpc, run: RunId) -> Option<RunUpdate> {
    let ledger = rpc.ledger.clone();
    let record = tokio::task::spawn_blocking(move || ledger.run(run)).await.ok()?.ok()??;
    matches!(record.state, RunState::Finished(_)).then(|| last_word(record))
}

fn last_word(run: RunRecord) -> RunUpdate {
    RunUpdate {
        run: run.id,
        at: run.finished.unwrap_or(run.queued),
        job: run.job,
        state: run.state,
        detail: run.trouble.map(|trouble| trouble.message),
        bytes_done: run.bytes,
        bytes_total: run.bytes,
    }
}
