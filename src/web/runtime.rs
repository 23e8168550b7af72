//! What the calls of one client run on.

use crate::web::WebError;

/// A runtime of one thread, which is left behind when it is dropped: the system's look-up of a name cannot be ended, and
/// whoever gave up waiting for it must not wait for it at the end.
pub(super) struct Runtime(Option<tokio::runtime::Runtime>, tokio::runtime::Handle);

impl Runtime {
    pub(super) fn new() -> Result<Self, WebError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(WebError::Runtime)?;
        let handle = runtime.handle().clone();
        Ok(Self(Some(runtime), handle))
    }

    pub(super) fn block_on<F: Future>(&self, work: F) -> F::Output {
        match &self.0 {
            Some(runtime) => runtime.block_on(work),
            // Only while it is dropped.
            None => self.1.block_on(work),
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
