//! What was decided and why, for the operator and for people: `GET /v1/apps/{namespace}/{name}`.

use crate::book::Book;
use crate::index::AppKey;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use std::sync::Arc;

/// The routes.
///
/// Answers 404 for an app that the scaler has not seen, and 503 while this replica has nothing to say: before its first lists
/// are complete, and while it stands by and has not heard from the leader.
pub fn router(book: Arc<Book>) -> Router {
    Router::new()
        .route("/v1/apps/{namespace}/{name}", get(app))
        .with_state(book)
}

async fn app(
    State(book): State<Arc<Book>>,
    Path((namespace, name)): Path<(String, String)>,
) -> Response {
    if !book.speaks() {
        let message = "this replica has nothing to say yet; ask again";
        return (StatusCode::SERVICE_UNAVAILABLE, message).into_response();
    }
    match book.report(&AppKey::new(namespace, name)) {
        Some(report) => Json(report).into_response(),
        None => (StatusCode::NOT_FOUND, "no such app was seen").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::AppPage;
    use maniple_crds::report::AppReport;

    async fn ask(book: &Arc<Book>, name: &str) -> (u16, Vec<u8>) {
        let path = Path(("ns".to_owned(), name.to_owned()));
        let response = app(State(Arc::clone(book)), path).await;
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20)
            .await
            .unwrap();
        (status, body.to_vec())
    }

    #[tokio::test]
    async fn an_app_is_reported_when_it_is_known() {
        let book = Arc::new(Book::new("starting"));
        assert_eq!(ask(&book, "shop").await.0, 503);
        book.speak(true);
        assert_eq!(ask(&book, "shop").await.0, 404);
        let page = AppPage {
            generation: 3,
            groups: Vec::new(),
        };
        book.write_app(&AppKey::new("ns", "shop"), page);
        let (status, body) = ask(&book, "shop").await;
        let report: AppReport = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, report.generation), (200, 3));
        book.speak(false);
        assert_eq!(ask(&book, "shop").await.0, 503);
    }
}
