//! The state store as NDJSON: written out, and read into an empty store.

use std::io::{BufWriter, Write};
use std::path::Path;

use crate::cli::args::{Export, Global, Import, Rebuild};
use crate::cli::{Code, Done, output};
use crate::error::{Trouble, codes};
use crate::store::damage::Damage;
use crate::store::export;
use crate::store::import::{self, import_file};
use crate::store::ledger::Ledger;
use crate::store::sled_store::SledStore;
use crate::store::{Batch, StoreError};

pub(crate) fn export(global: &Global, args: &Export) -> Done {
    let opened = SledStore::open(&existing_state(global)?).map_err(in_use)?;
    let refuse = |error: std::io::Error| cannot_write(&args.file, &error);
    let export = |to: &mut dyn Write| {
        export::export(&opened.store, to).map_err(|error| match error {
            StoreError::Write(source) => refuse(source),
            other => other.trouble(),
        })
    };
    if args.file == Path::new("-") {
        export(&mut std::io::stdout().lock())?;
        return Ok(Code::Done);
    }
    let count = if std::fs::metadata(&args.file).is_ok_and(|about| !about.is_file()) {
        export(&mut BufWriter::new(std::fs::File::create(&args.file).map_err(refuse)?))?
    } else {
        // One of before stays until this one is whole.
        let dir = args.file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = BufWriter::new(tempfile::NamedTempFile::new_in(dir).map_err(refuse)?);
        let count = export(&mut file)?;
        let file = file.into_inner().map_err(|error| refuse(error.into_error()))?;
        file.as_file().sync_all().map_err(refuse)?;
        file.persist(&args.file).map_err(|error| refuse(error.error))?;
        count
    };
    output::note(&format!("wrote {count} entries to {}", args.file.display()));
    Ok(Code::Done)
}

pub(crate) fn import(global: &Global, args: &Import) -> Done {
    let state = crate::cli::state_dir(global)?;
    let mut file = std::fs::File::open(&args.file).map_err(|error| {
        Trouble::new(codes::FILE_UNREADABLE, format!("cannot read {}: {error}", args.file.display()))
    })?;
    let opened = SledStore::open(&state).map_err(in_use)?;
    let is_file = file.metadata().is_ok_and(|about| about.is_file());
    let read = if is_file { import_file(&opened.store, &file) } else { import::import(&opened.store, &mut file) };
    let count = read.map_err(|error| error.trouble())?;
    let ledger = Ledger::new(std::sync::Arc::new(opened.store));
    if let Some(damage) = ledger.loss().map_err(|error| error.trouble())?.filter(|damage| damage.restored.is_none()) {
        let mut batch = Batch::default();
        let restored = Some(args.file.clone());
        let noted = batch.put_loss(&Damage { restored, ..damage }).and_then(|()| ledger.commit(batch));
        noted.map_err(|error| error.trouble())?;
    }
    output::note(&format!("read {count} entries into {}", state.display()));
    Ok(Code::Done)
}

/// Opens the state, which mends or fills it, and says or sets which site this is.
pub(crate) fn rebuild(global: &Global, args: &Rebuild) -> Done {
    let opened = SledStore::open(&existing_state(global)?).map_err(in_use)?;
    if let Some(export) = &opened.restored {
        output::note(&format!("the state was filled from {}", export.display()));
    }
    let ledger = Ledger::new(std::sync::Arc::new(opened.store));
    let before = ledger.site_id().map_err(|error| error.trouble())?;
    let Some(site) = &args.site else {
        match before {
            Some(site) => output::line(&format!("the identity of this site is {site}")),
            None => output::line("this site has no identity yet: the daemon finds it in the manifests, or draws one"),
        }
        return Ok(Code::Done);
    };
    let mut batch = Batch::default();
    // What this site knew is lost, else nobody would have to say who it is.
    if before.as_ref() != Some(site) && ledger.loss().map_err(|error| error.trouble())?.is_none() {
        let detail = format!("its identity was set to {site} by `larder rebuild`");
        batch.put_loss(&Damage::new(None, &detail, None)).map_err(|error| error.trouble())?;
    }
    batch.put_site_id(site).and_then(|()| ledger.commit(batch)).map_err(|error| error.trouble())?;
    let instead = before.filter(|before| before != site).map(|before| format!(" instead of {before}"));
    output::line(&format!("the identity of this site is {site}{}", instead.unwrap_or_default()));
    output::note(
        "start the daemon: its next run, and `larder doctor`, take in the snapshots that bear it; none of them is forgotten until the loss is accepted",
    );
    Ok(Code::Done)
}

/// The state directory, which a mere export must not make.
fn existing_state(global: &Global) -> Result<std::path::PathBuf, Trouble> {
    let state = crate::cli::state_dir(global)?;
    if state.is_dir() {
        return Ok(state);
    }
    Err(Trouble::new(codes::STATE_MISSING, format!("there is no state directory {}", state.display()))
        .with_hint("give --state DIR"))
}

fn in_use(error: StoreError) -> Trouble {
    match error {
        StoreError::InUse { .. } => error
            .trouble()
            .with_hint("stop the daemon first; its newest export is in the state directory under export/"),
        other => other.trouble(),
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Trouble {
    Trouble::new(codes::CANNOT_WRITE, format!("cannot write {}: {error}", path.display()))
}
