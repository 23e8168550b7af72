//! Whether the files of a store that is in use are whole: a copy of them is opened as a start would open it.
//!
//! The open store has pages in its memory, and reads of its log only what it is asked for, so asking it tells nothing of
//! its files. Its second chain is copied with them: what was cut off is missed. Nobody writes while they are copied, which
//! takes milliseconds; the copy is read beside everybody. Nothing that is found here changes the open store: it goes on
//! with what it has in its memory, and its next start sets the files aside.

use std::io;
use std::path::Path;
use std::sync::PoisonError;

use super::guard::close;
use super::{SledStore, StoreError, open_counted};

/// Copies that must be damaged before the store is called so: its own threads may cut its log while it is copied.
const LOOKS: u32 = 2;

/// Reads the files of `store` anew, by copies in `scratch`; answers how many records they have. Blocking.
pub(super) fn verify(store: &SledStore, scratch: &Path) -> Result<u64, StoreError> {
    let mut looks = 1;
    loop {
        match look(store, &scratch.join(looks.to_string())) {
            Err(StoreError::Damaged { .. }) if looks < LOOKS => looks += 1,
            Err(StoreError::Damaged { detail, .. }) => {
                return Err(StoreError::Damaged { path: store.path.clone(), detail });
            }
            answer => return answer,
        }
    }
}

fn look(store: &SledStore, copy: &Path) -> Result<u64, StoreError> {
    // A copy that fails is no failure of the store, which would be opened anew after one.
    let copied = store.with(StoreError::Read, |open| {
        let _nobody_writes = open.tail.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(copy_all(&store.path, copy))
    })?;
    copied.map_err(StoreError::Read)?;
    let (open, records) = open_counted(copy, None)?;
    close(Some(open));
    Ok(records)
}

fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_all(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
