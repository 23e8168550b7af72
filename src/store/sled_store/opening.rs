//! A start: the store of a state directory, whole, whatever was left of it.

use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::Timestamp;

use super::guard::{close, is_begun};
use super::{Open, Opened, STATE_KEY, SledStore, format_of, guarded, older, open_whole};
use crate::store::damage::Damage;
use crate::store::layout::{self, StateDir};
use crate::store::{Batch, FORMAT, FORMAT_KEY, Store as _, StoreError, Tree, import};

/// Where a lost store was moved to, and what did not add up.
type Loss<'a> = Option<(Option<&'a Path>, &'a str)>;

impl SledStore {
    /// Opens the store of the state directory `dir`, which is made when only it is missing.
    ///
    /// A store that is damaged, or lacks anything that was acknowledged, is set aside; an empty one is filled from the
    /// newest export that can be read. A store is made whole beside its place and then put there by one rename, so a
    /// process that is killed here leaves nothing that looks like damage. Where no store is although the directory has
    /// traces of one, or another directory's is there, that is a loss as well: it is noted in the new one.
    ///
    /// # Errors
    /// `InUse` when another process holds the directory, `Open` when the file system refuses, `Newer` when a later
    /// Larder wrote it.
    pub fn open(dir: &Path) -> Result<Opened, StoreError> {
        let state = StateDir::new(dir);
        let trace = state.trace();
        state.make()?;
        let lock = state.lock()?;
        let path = state.store();
        let mut restored = None;
        let mut set_aside = None;
        state.finish_exchange()?;
        let gone = trace.filter(|trace| trace.exists()).map(|trace| {
            let name = trace.strip_prefix(state.root()).unwrap_or(&trace).display().to_string();
            format!("{} is gone or empty, although {name} shows that a store was there", path.display())
        });
        let known_id = state.id();
        if !is_begun(&path) {
            restored = make(&state, gone.as_deref().map(|detail| (None, detail)))?;
            state.put_in_place()?;
        }
        let mut open = match open_whole(&path, known_id.as_deref()) {
            Ok(open) => open,
            Err(StoreError::Damaged { detail, .. }) => {
                let aside = state.aside(Timestamp::now());
                tracing::error!(path = %path.display(), aside = %aside.display(), detail, "the state store is damaged and is set aside");
                restored = make(&state, Some((Some(&aside), &detail)))?;
                state.exchange(&aside)?;
                set_aside = Some(aside);
                open_whole(&path, known_id.as_deref())?
            }
            Err(error) => return Err(error),
        };
        match format_of(&path, &open)? {
            Some(FORMAT) => {
                state.forget_older();
                guarded(&path, StoreError::Read, || open.tidy())?;
            }
            Some(_) => {
                bring_over(&state, open)?;
                open = open_whole(&path, known_id.as_deref())?;
            }
            None => {
                // Its files were removed one by one, or whoever filled it was killed before it was full.
                close(Some(open));
                restored = make(&state, gone.as_deref().map(|detail| (None, detail)))?;
                state.replace_unfinished()?;
                open = open_whole(&path, known_id.as_deref())?;
            }
        }
        let store = Self::of(path, open, lock);
        let state_id = store.belong(&state, known_id)?;
        Ok(Opened { store, set_aside, restored, state, state_id })
    }

    /// Writes into the store and beside it which state it belongs to, where one does not know it yet.
    fn belong(&self, state: &StateDir, known: Option<String>) -> Result<String, StoreError> {
        let key = STATE_KEY.as_bytes();
        let own = |open: &Open| open.trees.last().map(|tree| tree.get(key)).transpose().map(Option::flatten);
        let inside = self.with(StoreError::Read, own)?;
        let is_written = inside.is_some();
        let inside = inside.and_then(|id| String::from_utf8(id.to_vec()).ok()).filter(|id| layout::is_id(id));
        let is_known = known.is_some();
        let id = known.or(inside).unwrap_or_else(|| ulid::Ulid::new().to_string().to_ascii_lowercase());
        if !is_written {
            self.with(StoreError::Write, |open| {
                open.trees.last().map(|tree| tree.insert(key, id.as_bytes())).transpose()?;
                open.db.flush().map(|_| ())
            })?;
        }
        if !is_known {
            state.put_id(&id)?;
        }
        Ok(id)
    }

    /// Fills an empty store from the newest export, and notes why it was made.
    fn first_content(&self, state: &StateDir, damage: Loss<'_>) -> Result<Option<PathBuf>, StoreError> {
        let restored = import::restore_newest(self, &state.export())?;
        let mut batch = Batch::default();
        if restored.is_none() {
            batch.put(Tree::Meta, FORMAT_KEY, FORMAT.to_string());
        }
        if let Some((aside, detail)) = damage {
            let damage = Damage::new(aside, detail, restored.as_deref());
            tracing::error!("{}", damage.sentence());
            batch.put_loss(&damage)?;
        }
        self.commit(batch)?;
        Ok(restored)
    }
}

/// Makes a whole store beside its place: filled from the newest export, or empty.
fn make(state: &StateDir, damage: Loss<'_>) -> Result<Option<PathBuf>, StoreError> {
    make_with(state, |store| store.first_content(state, damage))
}

/// Makes a store beside its place, filled by `fill`.
fn make_with<T>(state: &StateDir, fill: impl FnOnce(&SledStore) -> Result<T, StoreError>) -> Result<T, StoreError> {
    let path = state.begin_store()?;
    let filled = SledStore::empty(&path).and_then(|store| fill(&store));
    if filled.is_err() {
        // A disk that is full keeps nothing of what could not be made.
        let _ = std::fs::remove_dir_all(&path);
    }
    let filled = filled?;
    state.end_store()?;
    Ok(filled)
}

/// Takes a whole store of an older format, and leaves one of today's in its place.
fn bring_over(state: &StateDir, open: Open) -> Result<(), StoreError> {
    let (begun, path) = (Instant::now(), state.store());
    // The lock of the state directory is held, and this file stands in for it.
    let lock = std::fs::File::open(&path).map_err(|source| StoreError::Open { path: path.clone(), source })?;
    let old = SledStore::of(path, open, lock);
    tracing::info!("the state store is brought over to a smaller format, once");
    make_with(state, |new| older::bring_over(&old, new))?;
    drop(old);
    state.exchange_older(Timestamp::now())?;
    tracing::info!(took_ms = begun.elapsed().as_millis(), "the state store was brought over");
    Ok(())
}
