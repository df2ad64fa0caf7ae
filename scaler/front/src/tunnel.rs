//! Bytes between the two ends of an upgraded connection.
//!
//! Most of such connections are silent nearly always, and there are many: what waits has no buffer. Bytes are read onto the stack and written at once; only what
//! the other end does not take is kept, at most one piece a direction.

use std::{
    future::{Future, poll_fn},
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of one piece.
const PIECE: usize = 8 * 1024;

/// How long one direction may go on after the other one has ended.
const HALF_OPEN: Duration = Duration::from_secs(60);

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Bytes from the instance to the client.
    pub(crate) answered: u64,
    /// Whether the instance has ended its direction: nothing runs there any more.
    pub(crate) by_instance: bool,
    /// Whether both directions have come to their ends.
    pub(crate) whole: bool,
}

/// Joins both ends until both directions have ended, or the second one does not follow the first in time.
pub(crate) async fn join<C, I>(mut client: C, mut instance: I) -> Ended
where
    C: AsyncRead + AsyncWrite + Unpin,
    I: AsyncRead + AsyncWrite + Unpin,
{
    let (mut asked, mut answered) = (Direction::default(), Direction::default());
    let mut half_open = None;
    let whole = poll_fn(|cx| {
        let there = asked.poll(cx, &mut client, &mut instance)?;
        let back = answered.poll(cx, &mut instance, &mut client)?;
        match (there, back) {
            (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Ok(true)),
            (Poll::Pending, Poll::Pending) => Poll::Pending,
            _ => half_open
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(HALF_OPEN)))
                .as_mut()
                .poll(cx)
                .map(|()| Ok::<_, io::Error>(false)),
        }
    })
    .await;
    Ended {
        answered: answered.bytes,
        by_instance: answered.ended,
        whole: whole.unwrap_or(false),
    }
}

#[derive(Debug, Default)]
struct Direction {
    /// Read and not yet taken.
    rest: Vec<u8>,
    taken: usize,
    bytes: u64,
    unflushed: bool,
    /// The reader has nothing more.
    ended: bool,
    closed: bool,
}

impl Direction {
    /// Ready when everything was passed on, the end included.
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> io::Result<Poll<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        match self.pass_on(cx, from, to) {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) => Ok(Poll::Ready(())),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    fn pass_on<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        while !self.closed {
            while self.taken < self.rest.len() {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.rest[self.taken..]))?;
                self.wrote(written)?;
                self.taken += written;
            }
            // Given back, not kept for the next time.
            self.rest = Vec::new();
            self.taken = 0;
            if self.ended {
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.closed = true;
                break;
            }
            let mut space = [MaybeUninit::uninit(); PIECE];
            let mut piece = ReadBuf::uninit(&mut space);
            match Pin::new(&mut *from).poll_read(cx, &mut piece) {
                Poll::Ready(read) => read?,
                Poll::Pending => {
                    if self.unflushed {
                        ready!(Pin::new(&mut *to).poll_flush(cx))?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
            let mut piece = piece.filled();
            self.ended = piece.is_empty();
            while !piece.is_empty() {
                match Pin::new(&mut *to).poll_write(cx, piece) {
                    Poll::Ready(written) => {
                        let written = written?;
                        self.wrote(written)?;
                        piece = &piece[written..];
                    }
                    Poll::Pending => {
                        self.rest = piece.to_vec();
                        return Poll::Pending;
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn wrote(&mut self, count: usize) -> io::Result<()> {
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.bytes += count as u64;
        self.unflushed = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};

    use super::*;

    #[tokio::test]
    async fn every_byte_passes_both_ways_through_small_pipes() {
        let ((mut client, near), (far, mut instance)) = (duplex(7), duplex(13));
        let joined = tokio::spawn(join(near, far));
        let sent: Vec<u8> = (0..100_000_u32).map(|i| i.to_be_bytes()[3]).collect();
        let expected = sent.clone();
        let echo = tokio::spawn(async move {
            let (mut read, mut write) = split(&mut instance);
            tokio::io::copy(&mut read, &mut write).await.unwrap();
            write.shutdown().await.unwrap();
        });
        let (mut read, mut write) = split(&mut client);
        let sending = async {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let mut back = Vec::new();
        let ((), received) = tokio::join!(sending, read.read_to_end(&mut back));
        received.unwrap();
        assert!(back == expected);
        echo.await.unwrap();
        let ended = joined.await.unwrap();
        let whole = Ended {
            answered: 100_000,
            by_instance: true,
            whole: true,
        };
        assert_eq!(ended, whole);
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_is_not_answered_is_not_waited_for_for_ever() {
        for by_instance in [false, true] {
            let ((mut client, near), (far, mut instance)) = (duplex(64), duplex(64));
            let joined = tokio::spawn(join(near, far));
            if by_instance {
                instance.shutdown().await.unwrap();
            } else {
                client.shutdown().await.unwrap();
            }
            // The other direction still works for a while.
            client.write_all(b"x").await.ok();
            instance.write_all(b"y").await.ok();
            let ended = joined.await.unwrap();
            assert_eq!((ended.by_instance, ended.whole), (by_instance, false));
        }
    }

    #[tokio::test]
    async fn an_end_that_breaks_ends_the_tunnel() {
        let ((client, near), (far, mut instance)) = (duplex(64), duplex(64));
        let joined = tokio::spawn(join(near, far));
        drop(client);
        // Nobody takes it.
        instance.write_all(&[0; 64]).await.ok();
        let ended = joined.await.unwrap();
        assert!(!ended.whole && !ended.by_instance);
    }
}
