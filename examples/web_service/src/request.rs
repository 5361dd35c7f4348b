//! What a request says besides its path: the headers of a command, its JSON body, and the page of a
//! list. Wrong ones are answered here, as JSON.

use annals::prelude::*;
use annals::{IdempotencyKey, RequestDigest, Version};
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use serde::de::DeserializeOwned;

use crate::failure::Failure;

/// Longest body of a request, in bytes.
pub const BODY_LEN_MAX: usize = 16 * 1024;

/// The namespace of ids that are derived from idempotency keys.
const IDS: EventId = EventId::from_bytes(*b"ordering service");

/// The headers of a command.
#[derive(Debug, Clone)]
pub struct Context {
    /// Who sends it. A real service takes this from its authentication.
    pub user: String,
    /// The correlation id of the events.
    pub request_id: String,
    pub expected: ExpectedVersion,
    pub key: Option<IdempotencyKey>,
}

impl Context {
    /// The id of the aggregate that this request creates. It is derived from the key, so that the
    /// same request sent again creates, and answers, the same one.
    pub fn new_id(&self) -> String {
        let derived = |key: &IdempotencyKey| IDS.derived(format!("{}\n{}", key.scope(), key.key()));
        self.key.as_ref().map_or_else(EventId::random, derived).to_string()
    }

    /// Adds the metadata to an event that no command adds it to.
    pub fn describe(&self, event: NewEvent) -> NewEvent {
        event.with_metadata("user", &self.user).correlated_by(&self.request_id)
    }
}

/// A command: its headers, and its body as JSON.
#[derive(Debug)]
pub struct Command<T> {
    pub context: Context,
    pub body: T,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Command<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let headers = request.headers().clone();
        let body = Bytes::from_request(request, state).await.map_err(|error| rejected(&error))?;
        let user = text(&headers, "x-user")?.unwrap_or("anonymous").to_owned();
        let request_id = text(&headers, "x-request-id")?
            .map_or_else(|| EventId::random().to_string(), str::to_owned);
        let key = match text(&headers, "idempotency-key")? {
            Some(sent) => {
                // Keys of different users are different keys.
                let begin = format!("{method} {}\n", uri.path());
                let digest = RequestDigest::of([begin.as_bytes(), &body].concat());
                Some(IdempotencyKey::new(&user, sent, digest)?)
            }
            None if method == Method::POST => {
                let text = "send a header Idempotency-Key, with a new value for each new request";
                return Err(Failure::bad_request("key_missing", text));
            }
            None => None,
        };
        let expected = match text(&headers, header::IF_MATCH.as_str())? {
            None => ExpectedVersion::Any,
            Some(sent) => if_match(sent).ok_or_else(|| {
                let text = "If-Match is not an ETag of this service: send the one that you read";
                Failure::bad_request("invalid_if_match", text)
            })?,
        };
        let json = if body.is_empty() { b"{}".as_slice() } else { body.as_ref() };
        let body = serde_json::from_slice(json)
            .map_err(|error| Failure::bad_request("invalid_json", error))?;
        Ok(Self { context: Context { user, request_id, expected, key }, body })
    }
}

/// The id in the path.
#[derive(Debug)]
pub struct Id(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path(id) = Path::from_request_parts(parts, state)
            .await
            .map_err(|error| Failure::bad_request("invalid_path", error))?;
        Ok(Self(id))
    }
}

/// The query of a request.
#[derive(Debug)]
pub struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Query(params) = Query::from_request_parts(parts, state)
            .await
            .map_err(|error| Failure::bad_request("invalid_query", error.body_text()))?;
        Ok(Self(params))
    }
}

/// The `ETag` of an aggregate.
pub fn etag(version: Version) -> String {
    format!("\"{version}\"")
}

/// The expected version in a header `If-Match`; `None` if it is not an `ETag` of this service.
fn if_match(sent: &str) -> Option<ExpectedVersion> {
    if sent == "*" {
        return Some(ExpectedVersion::StreamExists);
    }
    let number: u64 = sent.strip_prefix('"')?.strip_suffix('"')?.parse().ok()?;
    Some(ExpectedVersion::from(Version::new(number)))
}

/// The value of a header.
///
/// # Errors
/// 400 if it is not ASCII text.
pub fn text<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Failure> {
    let value = headers.get(name).map(|value| value.to_str());
    value.transpose().map_err(|_| {
        Failure::bad_request("invalid_header", format!("header {name} is not ASCII text"))
    })
}

fn rejected(error: &BytesRejection) -> Failure {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let text = format!("a body has at most {BODY_LEN_MAX} bytes");
            Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text)
        }
        _ => Failure::bad_request("invalid_body", error.body_text()),
    }
}
