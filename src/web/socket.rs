//! A WebSocket to an application: messages of JSON, over a connection with the same trust and bounds as every call.
//!
//! The upgrade is an HTTP call like others. The server's `Sec-WebSocket-Accept` is not compared: it guards against caches
//! that never answer 101, and what an application says first tells more.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use soketto::connection::{Builder, Error};
use soketto::{Incoming, Mode};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use crate::web::{Answer, Call, Web, WebError};

/// Longest message that is taken, in bytes.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

type Stream = Compat<reqwest::Upgraded>;

/// An open WebSocket.
pub(crate) struct Socket<'w> {
    web: &'w Web,
    sender: soketto::Sender<Stream>,
    receiver: soketto::Receiver<Stream>,
    what: String,
}

/// What came of the wish for a WebSocket.
pub(crate) enum Upgraded<'w> {
    Open(Socket<'w>),
    /// The server answered with something else than 101.
    Refused(Answer<'w>),
}

impl<'w> Socket<'w> {
    /// Asks for a WebSocket.
    ///
    /// # Errors
    /// When there is no answer.
    pub(crate) fn open(web: &'w Web, call: Call<'w>) -> Result<Upgraded<'w>, WebError> {
        // 16 bytes in base64, of which no two connections have the same: a ULID's letters are letters of base64.
        let key = format!("{}A==", ulid::Ulid::new().to_string().get(5..).unwrap_or_default());
        let answer = call
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", &key)
            .send()?;
        if answer.status() != 101 {
            return Ok(Upgraded::Refused(answer));
        }
        let what = answer.what().to_owned();
        let stream = web.runtime.block_on(answer.into_response().upgrade()).map_err(|error| WebError::Protocol {
            what: what.clone(),
            detail: format!("the connection does not become a WebSocket: {error}"),
        })?;
        let mut builder = Builder::new(stream.compat(), Mode::Client);
        builder.set_max_message_size(MESSAGE_BYTES_MAX);
        builder.set_max_frame_size(MESSAGE_BYTES_MAX);
        let (sender, receiver) = builder.finish();
        Ok(Upgraded::Open(Self { web, sender, receiver, what }))
    }

    /// Sends one message.
    ///
    /// # Errors
    /// `Silent` when it cannot be sent in time, `Cut`.
    pub(crate) fn send(&mut self, message: &impl Serialize) -> Result<(), WebError> {
        let text = serde_json::to_string(message).unwrap_or_default();
        let sender = &mut self.sender;
        let sent = self.web.runtime.block_on(async {
            let work = async {
                sender.send_text_owned(text).await?;
                sender.flush().await
            };
            tokio::time::timeout(self.web.silence, work).await
        });
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.broken(&error)),
            Err(_) => Err(self.silent(self.web.silence)),
        }
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// `Silent`, `Cut`, `NotJson`.
    pub(crate) fn receive(&mut self) -> Result<Value, WebError> {
        let mut message = Vec::new();
        loop {
            let receiver = &mut self.receiver;
            let silence = self.web.silence;
            let received = self
                .web
                .runtime
                .block_on(async { tokio::time::timeout(silence, receiver.receive(&mut message)).await });
            match received {
                Ok(Ok(Incoming::Data(_))) => break,
                Ok(Ok(Incoming::Pong(_))) => {}
                Ok(Ok(Incoming::Closed(_))) => return Err(self.broken(&Error::Closed)),
                Ok(Err(error)) => return Err(self.broken(&error)),
                Err(_) => return Err(self.silent(silence)),
            }
        }
        serde_json::from_slice(&message).map_err(|error| WebError::NotJson {
            what: self.what.clone(),
            detail: format!("a message breaks at line {} column {}", error.line(), error.column()),
        })
    }

    /// Says goodbye; whether it is heard does not matter.
    pub(crate) fn close(mut self) {
        const GOODBYE_MAX: Duration = Duration::from_secs(1);
        let sender = &mut self.sender;
        let _ = self.web.runtime.block_on(async { tokio::time::timeout(GOODBYE_MAX, sender.close()).await });
    }

    fn silent(&self, silence: Duration) -> WebError {
        WebError::Silent { what: self.what.clone(), silence }
    }

    fn broken(&self, error: &Error) -> WebError {
        match error {
            Error::Closed | Error::Io(_) => WebError::Cut { what: self.what.clone(), got: 0, announced: None },
            other => WebError::Protocol { what: self.what.clone(), detail: other.to_string() },
        }
    }
}
