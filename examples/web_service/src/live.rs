//! The routes of the feed: Server-Sent Events, a WebSocket, and the page that shows it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{self, CloseFrame, WebSocket, WebSocketUpgrade, close_code};
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::sse::{Event, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::feed::{Cursor, Feed, Kind, Message};
use crate::request::{Params, text};
use crate::service::Service;

/// How long a browser waits before it connects again.
const RETRY: Duration = Duration::from_secs(1);
/// Longest message that is accepted from a WebSocket client, which has nothing to say.
const RECEIVED_LEN_MAX: usize = 1024;
/// How long a WebSocket client may take to answer the end of the feed.
const CLOSE_WAIT: Duration = Duration::from_secs(1);
/// Tells nginx not to buffer.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

type Shared = State<Arc<Service>>;

/// Where a client continues.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resume {
    /// The id of the last message that it received. Empty: from the beginning.
    #[serde(default)]
    after: String,
}

/// The routes of the feed.
pub fn router() -> Router<Arc<Service>> {
    Router::new()
        .route("/", get(async || Html(include_str!("page.html"))))
        .route("/events", get(events))
        .route("/events/ws", get(socket))
}

fn cursor(text: &str) -> Result<Option<Cursor>, Failure> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

/// Sends the feed as Server-Sent Events. A browser that connects again sends the header
/// `Last-Event-ID`, which is newer than the query.
async fn events(
    State(service): Shared,
    Params(query): Params<Resume>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let after = text(&headers, "last-event-id")?.unwrap_or(&query.after);
    let feed = Feed::start(&service, cursor(after)?).await?;
    let retry = stream::iter([Ok::<_, Infallible>(Event::default().retry(RETRY))]);
    let messages = stream::unfold(feed, async |mut feed| {
        let message = feed.next().await?;
        Some((Ok(event(&message)), feed))
    });
    let headers = [(header::CACHE_CONTROL, "no-store"), (BUFFERING, "no")];
    Ok((headers, Sse::new(retry.chain(messages))).into_response())
}

fn event(message: &Message) -> Event {
    let event = match message.id {
        Some(id) => Event::default().id(id.to_string()),
        // The browser forgets the last id.
        None if message.event == Kind::Reset => Event::default().id(""),
        None => Event::default(),
    };
    match message.event {
        // Without data it is no event for the browser, which keeps the id all the same.
        Kind::Heartbeat => event.comment("heartbeat"),
        kind => event.event(kind.name()).data(message.data.to_string()),
    }
}

/// Sends the feed through a WebSocket: each message as JSON, with the same content.
async fn socket(
    State(service): Shared,
    Params(query): Params<Resume>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Failure> {
    let upgrade =
        upgrade.map_err(|error| Failure::new(error.status(), "no_websocket", error.body_text()))?;
    let feed = Feed::start(&service, cursor(&query.after)?).await?;
    Ok(upgrade.max_message_size(RECEIVED_LEN_MAX).on_upgrade(|socket| send_all(socket, feed)))
}

/// Sends the feed until it ends or the client leaves, then closes the connection.
async fn send_all(mut socket: WebSocket, mut feed: Feed) {
    let stopped = feed.stopped();
    tokio::select! {
        () = pump(&mut socket, &mut feed) => {}
        // Even if the client does not read.
        () = stopped => {}
    }
    let reason = CloseFrame { code: close_code::RESTART, reason: "connect again".into() };
    let close = async {
        _ = socket.send(ws::Message::Close(Some(reason))).await;
        // Sends what is left to send, also the answer to a client that leaves.
        while let Some(Ok(_)) = socket.recv().await {}
    };
    _ = timeout(CLOSE_WAIT, close).await;
}

async fn pump(socket: &mut WebSocket, feed: &mut Feed) {
    loop {
        tokio::select! {
            message = feed.next() => {
                let Some(message) = message else { return };
                if socket.send(ws::Message::Text(message.json().into())).await.is_err() {
                    return;
                }
            }
            // Answers pings. A client has nothing else to say.
            received = socket.recv() => if !matches!(received, Some(Ok(_))) { return },
        }
    }
}
