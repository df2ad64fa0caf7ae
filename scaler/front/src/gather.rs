//! Writing small messages by the cheapest call.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Messages up to this length in bytes are copied together: the copy takes less time than the kernel needs to read a list of parts.
const SMALL: usize = 2048;

/// A connection on which head and body of a small message leave as one part.
#[derive(Debug)]
pub(crate) struct Gather(pub(crate) TcpStream);

impl AsyncRead for Gather {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Gather {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.0);
        if let [one] = parts {
            return stream.poll_write(cx, one);
        }
        let mut small = [0; SMALL];
        match gather(parts, &mut small) {
            Some(bytes) => stream.poll_write(cx, bytes),
            None => stream.poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
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
