//! A connection that is not waited for without end: a peer that sends its request too slowly, sits idle, or takes
//! nothing of what we write is dropped. Below HTTP, so it bounds WebSockets and static files too.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::rpc::Bounds;

/// How many requests of a connection are being answered; an upgraded one counts as busy for ever.
#[derive(Clone, Debug, Default)]
pub(super) struct Activity {
    busy: Arc<AtomicUsize>,
    upgraded: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
}

/// A request in progress; ends when dropped.
#[derive(Debug)]
pub(super) struct Busy(Activity);

impl Activity {
    pub(super) fn begin(&self) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// Says that the connection became a WebSocket: from now on pings watch over it.
    pub(super) fn upgraded(&self) {
        self.busy.fetch_add(1, Ordering::Relaxed);
        self.upgraded.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_upgraded(&self) -> bool {
        self.upgraded.load(Ordering::Relaxed)
    }

    fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0
    }

    fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.answered.fetch_add(1, Ordering::Relaxed);
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream with deadlines.
#[derive(Debug)]
pub(super) struct PatientStream<S> {
    inner: S,
    activity: Activity,
    idle: Duration,
    write_stall: Duration,
    /// Ends the wait for the request that is being read.
    read_deadline: Pin<Box<Sleep>>,
    /// How many requests were answered when `read_deadline` was set.
    seen: usize,
    /// Runs while a write makes no progress.
    write_deadline: Option<Pin<Box<Sleep>>>,
    /// A write was given up: reading ends too, so that a WebSocket's other half doesn't hold the connection.
    broken: bool,
    reader: Option<Waker>,
}

impl<S> PatientStream<S> {
    pub(super) fn new(inner: S, activity: Activity, bounds: &Bounds) -> Self {
        Self {
            inner,
            activity,
            idle: bounds.idle,
            write_stall: bounds.write_stall,
            read_deadline: Box::pin(sleep_until(Instant::now() + bounds.header)),
            seen: 0,
            write_deadline: None,
            broken: false,
            reader: None,
        }
    }

    /// Whether the peer has had its time for sending a request. One deadline for the whole header: a byte now and
    /// then does not extend it.
    fn reading_too_long(&mut self, cx: &mut Context<'_>) -> bool {
        if self.activity.is_busy() {
            return false;
        }
        let answered = self.activity.answered();
        if answered != self.seen {
            self.seen = answered;
            self.read_deadline.as_mut().reset(Instant::now() + self.idle);
        }
        self.read_deadline.as_mut().poll(cx).is_ready()
    }

    fn bound_write<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.write_deadline = None;
            return result;
        }
        let stall = self.write_stall;
        let deadline = self.write_deadline.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + stall)));
        match deadline.as_mut().poll(cx) {
            Poll::Ready(()) => {
                self.broken = true;
                if let Some(reader) = self.reader.take() {
                    reader.wake();
                }
                Poll::Ready(Err(timed_out("the peer takes nothing")))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PatientStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.broken {
            return Poll::Ready(Err(timed_out("the peer takes nothing")));
        }
        if self.reading_too_long(cx) {
            return Poll::Ready(Err(timed_out("no request in time")));
        }
        let result = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.reader = result.is_pending().then(|| cx.waker().clone());
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PatientStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.bound_write(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        self.bound_write(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.bound_write(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.bound_write(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

fn timed_out(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, why)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    fn stream(buffer: usize) -> (PatientStream<tokio::io::DuplexStream>, Activity, tokio::io::DuplexStream) {
        let (ours, theirs) = duplex(buffer);
        let activity = Activity::default();
        (PatientStream::new(ours, activity.clone(), &Bounds::default()), activity, theirs)
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_now_and_then_does_not_keep_a_connection() {
        let (mut stream, _activity, mut peer) = stream(64);
        let drip = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if peer.write_all(b"x").await.is_err() {
                    return;
                }
            }
        });
        let start = Instant::now();
        let mut buffer = [0; 8];
        let error = loop {
            match stream.read(&mut buffer).await {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() <= Bounds::default().header + Duration::from_secs(1));
        drip.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_takes_long_to_answer_is_not_cut_and_idling_after_it_is() {
        let (mut stream, activity, _peer) = stream(64);
        let busy = activity.begin();
        let mut buffer = [0; 8];
        let waited = tokio::time::timeout(Duration::from_hours(1), stream.read(&mut buffer)).await;
        assert!(waited.is_err(), "still waiting after an hour");
        drop(busy);
        let start = Instant::now();
        let error = stream.read(&mut buffer).await.unwrap_err();
        assert_eq!((error.kind(), start.elapsed()), (io::ErrorKind::TimedOut, Bounds::default().idle));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_dropped() {
        let (stream, activity, _peer) = stream(16);
        activity.upgraded();
        let (mut reader, mut writer) = tokio::io::split(stream);
        let reading = tokio::spawn(async move { reader.read_u8().await });
        let start = Instant::now();
        let error = writer.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!((error.kind(), start.elapsed()), (io::ErrorKind::TimedOut, Bounds::default().write_stall));
        let both = reading.await.unwrap().unwrap_err();
        assert_eq!((both.kind(), start.elapsed()), (io::ErrorKind::TimedOut, Bounds::default().write_stall));
    }
}
