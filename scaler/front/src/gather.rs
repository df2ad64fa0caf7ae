//! Writing small messages by the cheapest call.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Messages up to this length in bytes are copied together: the copy takes less time than the kernel needs to read a list of parts.
const SMALL: usize = 2048;

/// A connection on which head and body of a small message leave as one part.
#[derive(Debug)]
pub(crate) struct Gather {
    stream: TcpStream,
    written: Written,
}

/// How many bytes of a connection the kernel has taken so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written(Arc<AtomicU64>);

impl Written {
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl Gather {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            written: Written::default(),
        }
    }

    pub(crate) fn written(&self) -> Written {
        self.written.clone()
    }

    fn count(&self, written: io::Result<usize>) -> Poll<io::Result<usize>> {
        if let Ok(count) = written {
            self.written.0.fetch_add(count as u64, Ordering::Release);
        }
        Poll::Ready(written)
    }
}

impl AsyncRead for Gather {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Gather {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [one] = parts {
            return self.poll_write(cx, one);
        }
        let mut small = [0; SMALL];
        if let Some(bytes) = gather(parts, &mut small) {
            return self.poll_write(cx, bytes);
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, parts));
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// All parts one behind the other; none when they do not fit.
fn gather<'a>(parts: &[IoSlice<'_>], space: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut filled = 0;
    for part in parts {
        let end = filled + part.len();
        space.get_mut(filled..end)?.copy_from_slice(part);
        filled = end;
    }
    Some(&space[..filled])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_joined_when_they_fit() {
        let parts = [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cde")];
        assert_eq!(gather(&parts, &mut [0; 5]), Some(&b"abcde"[..]));
        assert_eq!(gather(&parts, &mut [0; 4]), None);
        assert_eq!(gather(&[], &mut [0; 4]), Some(&b""[..]));
    }
}
