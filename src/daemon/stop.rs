//! The end of the daemon: asked for by a signal, bounded whatever hangs.
//!
//! The signals are heard on a thread of its own with a runtime of its own, so that nothing that blocks the daemon's
//! threads keeps it from hearing them; and the same thread ends the process when the orderly end takes too long. What is
//! left then is what a power cut leaves, and the next start mends it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::{Trouble, codes};

/// The whole of an end, from the signal on; service managers kill after 20 to 90 seconds.
const END_MAX: Duration = Duration::from_secs(18);

/// Cancels `cancel` at SIGTERM or SIGINT, and sees to it that the process ends.
pub(crate) fn on_signal(cancel: CancellationToken) {
    let listening = std::thread::Builder::new().name("larder-signals".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(listen(cancel)),
            Err(error) => tracing::error!(%error, "cannot listen for signals"),
        }
    });
    if let Err(error) = listening {
        tracing::error!(%error, "cannot listen for signals");
    }
}

async fn listen(cancel: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("cannot listen for signals");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        () = cancel.cancelled() => {}
    }
    cancel.cancel();
    tokio::time::sleep(END_MAX).await;
    tracing::warn!("something hangs and is left behind; the next start mends what is unfinished");
    leave();
}

#[expect(clippy::exit, reason = "a thread that hangs in the kernel can't be ended otherwise")]
fn leave() {
    crate::look::end_all();
    std::process::exit(0);
}

/// Why work came to nothing that the end cut short, or somebody cancelled.
pub(super) fn stopped() -> Trouble {
    Trouble::new(codes::CANCELLED, "the daemon is stopping")
}
