//! A connection on which ids come back as they were written, also once it is a WebSocket: then its messages are changed as
//! they pass, both ways. Before that, `front` does it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::rpc::frames::Frames;
use crate::rpc::stream::Activity;
use crate::rpc::{Bounds, ids};

/// How the answer starts with which a connection becomes a WebSocket, and how its head ends.
const SWITCHING: &[u8] = b"HTTP/1.1 101";
const HEAD_END: &[u8] = b"\r\n\r\n";

/// How much of what is changed may wait for the peer before more is taken.
const WAITING_BYTES_MAX: usize = 64 * 1024;

/// How much is read at once.
const PART_BYTES: usize = 16 * 1024;

/// A stream below HTTP and WebSocket.
#[derive(Debug)]
pub(super) struct EchoStream<S> {
    inner: S,
    activity: Activity,
    socket: Socket,
    inward: Frames,
    outward: Frames,
    /// Changed, not read by the server yet.
    read: Waiting,
    /// Changed, not taken by the peer yet.
    written: Waiting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Socket {
    /// HTTP.
    NotYet,
    /// The head of the answer that switches passes.
    Head,
    Open,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// How many of them are gone.
    gone: usize,
}

impl Waiting {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.gone..).unwrap_or_default()
    }

    fn take(&mut self, count: usize) {
        self.gone += count;
        if self.rest().is_empty() {
            self.bytes.clear();
            self.gone = 0;
        }
    }
}

impl<S> EchoStream<S> {
    pub(super) fn new(inner: S, activity: Activity, bounds: &Bounds) -> Self {
        let answer_bytes_max = usize::try_from(bounds.response_bytes_max).unwrap_or(usize::MAX).saturating_mul(2);
        Self {
            inner,
            activity,
            socket: Socket::NotYet,
            inward: Frames::new(bounds.body_bytes_max, ids::inward),
            outward: Frames::new(answer_bytes_max, ids::outward),
            read: Waiting::default(),
            written: Waiting::default(),
        }
    }

    /// How much of what the server writes belongs to the head that switches.
    fn head(&mut self, bytes: &[u8]) -> usize {
        let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|window| window == what);
        if self.socket == Socket::NotYet && find(bytes, SWITCHING).is_some() {
            self.socket = Socket::Head;
        }
        let from = find(bytes, SWITCHING).unwrap_or(0);
        match bytes.get(from..).and_then(|rest| find(rest, HEAD_END)) {
            Some(end) if self.socket == Socket::Head => {
                self.socket = Socket::Open;
                from + end + HEAD_END.len()
            }
            _ => bytes.len(),
        }
    }
}

impl<S: AsyncWrite + Unpin> EchoStream<S> {
    /// Hands over what waits.
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.written.rest().is_empty() {
            let count = ready!(Pin::new(&mut self.inner).poll_write(cx, self.written.rest()))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written.take(count);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for EchoStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.socket != Socket::Open {
            return Pin::new(&mut self.inner).poll_read(cx, buffer);
        }
        loop {
            let this = &mut *self;
            let part = this.read.rest();
            if !part.is_empty() {
                let count = part.len().min(buffer.remaining());
                buffer.put_slice(part.get(..count).unwrap_or_default());
                this.read.take(count);
                return Poll::Ready(Ok(()));
            }
            let mut fresh = [0; PART_BYTES];
            let mut fresh = ReadBuf::new(&mut fresh);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut fresh))?;
            if fresh.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.inward.take(fresh.filled(), &mut this.read.bytes);
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for EchoStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.activity.is_upgraded() {
            return Pin::new(&mut self.inner).poll_write(cx, bytes);
        }
        if self.written.rest().len() > WAITING_BYTES_MAX {
            ready!(self.drain(cx))?;
        }
        let this = &mut *self;
        let head = if this.socket == Socket::Open { 0 } else { this.head(bytes) };
        let (head, frames) = bytes.split_at(head.min(bytes.len()));
        this.written.bytes.extend_from_slice(head);
        this.outward.take(frames, &mut this.written.bytes);
        // What the peer does not take now goes with the flush.
        if let Poll::Ready(Err(error)) = this.drain(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.drain(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.drain(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.activity.is_upgraded() {
            return Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        }
        let first = slices.iter().find(|slice| !slice.is_empty());
        first.map_or(Poll::Ready(Ok(0)), |slice| self.poll_write(cx, slice))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
