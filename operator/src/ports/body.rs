//! Answers of others, read up to a limit: a tenant's pod may send without end.

use serde::de::DeserializeOwned;

/// Why an answer cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// The connection broke.
    #[error("{0}")]
    Broken(String),
    /// More than the limit.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// Not the expected JSON.
    #[error("the answer is not what was expected: {0}")]
    Unexpected(String),
}

/// Reads at most `limit` bytes of JSON.
pub(super) async fn json<T: DeserializeOwned>(
    mut answer: reqwest::Response,
    limit: usize,
) -> Result<T, BodyError> {
    let mut text = Vec::new();
    while let Some(chunk) = answer
        .chunk()
        .await
        .map_err(|e| BodyError::Broken(e.without_url().to_string()))?
    {
        if text.len() + chunk.len() > limit {
            return Err(BodyError::TooLong(limit));
        }
        text.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&text).map_err(|e| BodyError::Unexpected(e.to_string()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Answers every request with the same bytes; counts the requests.
    pub(in crate::ports) async fn server(
        answer: String,
    ) -> (SocketAddr, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counter = std::sync::Arc::clone(&count);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut request = [0_u8; 4096];
                let _ = socket.read(&mut request).await;
                counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        (address, count)
    }

    pub(in crate::ports) fn ok(body: &str) -> String {
        format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
    }

    #[tokio::test]
    async fn a_long_answer_is_given_up() {
        maniple_runtime::install_tls_provider();
        let (address, _) = server(ok(&format!("[{}1]", "1,".repeat(1000)))).await;
        let get = async || reqwest::get(format!("http://{address}/")).await.unwrap();
        let long = json::<Vec<u8>>(get().await, 100).await.unwrap_err();
        assert!(matches!(long, BodyError::TooLong(100)), "{long}");
        assert_eq!(
            json::<Vec<u8>>(get().await, 10_000).await.unwrap().len(),
            1001
        );
        let other = json::<String>(get().await, 10_000).await.unwrap_err();
        assert!(matches!(other, BodyError::Unexpected(_)), "{other}");
    }
}
