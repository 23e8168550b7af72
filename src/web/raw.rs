//! A connection that a call turned into a plain stream of bytes (status 101): what an engine gives to a program's input.

use std::io::Read;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::web::{Answer, WebError};

const CHUNK_BYTES: usize = 64 << 10;

impl Answer<'_> {
    /// Sends all of `input`, and hands out what comes back meanwhile and after, until the other side ends.
    ///
    /// The connection stays open for sending until then: not every proxy lets half of one be closed. What the other side
    /// does not want to read any more is not sent.
    ///
    /// # Errors
    /// `Silent`, `Cut`; what `on_bytes` fails with; an input that cannot be read.
    pub(crate) fn converse<E: From<WebError>>(
        self,
        mut input: impl Read,
        on_bytes: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (web, what) = (self.web(), self.what().to_owned());
        let cut = |got: u64| WebError::Cut { what: what.clone(), got, announced: None };
        let stream = web.runtime.block_on(self.into_response().upgrade()).map_err(|error| WebError::Protocol {
            what: what.clone(),
            detail: format!("the connection does not become a stream: {error}"),
        })?;
        web.runtime.block_on(async {
            let (mut reader, mut writer) = tokio::io::split(stream);
            let send = async {
                let mut chunk = vec![0; CHUNK_BYTES];
                loop {
                    let read = input.read(&mut chunk).map_err(|error| WebError::Protocol {
                        what: what.clone(),
                        detail: format!("what is to be sent cannot be read: {error}"),
                    })?;
                    let Some(piece) = chunk.get(..read).filter(|piece| !piece.is_empty()) else { break };
                    // Who does not read any more says why in what it writes.
                    if writer.write_all(piece).await.is_err() {
                        break;
                    }
                }
                let _ = writer.flush().await;
                std::future::pending::<Result<(), E>>().await
            };
            let receive = async {
                let mut chunk = vec![0; CHUNK_BYTES];
                let mut got = 0;
                loop {
                    let read = tokio::time::timeout(web.silence, reader.read(&mut chunk)).await;
                    let read = match read {
                        Ok(Ok(read)) => read,
                        Ok(Err(_)) => return Err(cut(got).into()),
                        Err(_) => return Err(WebError::Silent { what: what.clone(), silence: web.silence }.into()),
                    };
                    let Some(piece) = chunk.get(..read).filter(|piece| !piece.is_empty()) else { return Ok(()) };
                    got += read as u64;
                    on_bytes(piece)?;
                }
            };
            tokio::select! {
                done = receive => done,
                failed = send => failed,
            }
        })
    }
}
