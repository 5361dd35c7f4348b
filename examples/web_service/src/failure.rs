//! [`Failure`]: an error as an HTTP answer, with a status code and a JSON body. All errors of
//! annals are mapped here.

use std::fmt;

use annals::prelude::*;
use annals::{Error, InvalidArgument, ProjectionError};
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Why a request was not done.
#[derive(Debug, Clone)]
pub struct Failure {
    pub status: StatusCode,
    pub code: &'static str,
    pub text: String,
    /// The store must be reopened.
    pub needs_reopen: bool,
}

/// A rejection by the domain, with its status code and its code in the body.
pub trait Rejection: std::error::Error {
    fn code(&self) -> (StatusCode, &'static str);
}

impl Failure {
    pub fn new(status: StatusCode, code: &'static str, text: impl fmt::Display) -> Self {
        Self { status, code, text: text.to_string(), needs_reopen: false }
    }

    pub fn bad_request(code: &'static str, text: impl fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, text)
    }

    /// The client may try again soon.
    pub fn unavailable(code: &'static str, text: impl fmt::Display) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, text)
    }

    /// The read model does not have the position that the client wants to see.
    pub fn behind() -> Self {
        Self::unavailable("read_model_behind", "the read model is behind; try again")
    }

    fn version_mismatch() -> Self {
        let text = "If-Match is not the current ETag: read it again, and decide again";
        Self::new(StatusCode::PRECONDITION_FAILED, "version_mismatch", text)
    }

    pub fn internal() -> Self {
        let text = "the request failed; the log of the service has the reason";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", text)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        // Errors of the server name files and streams, so only the log gets their text.
        let with_log = |failure: Self| {
            log(&error);
            failure
        };
        match &error {
            Error::IdempotencyKeyReused { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "key_reused", &error)
            }
            Error::LimitExceeded(_) => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", &error)
            }
            Error::DiskFull { .. } => with_log(Self::unavailable(
                "disk_full",
                "the disk of the service is full; try again later",
            )),
            _ if error.needs_reopen() => with_log(Self {
                needs_reopen: true,
                ..Self::unavailable("reopening", "the store is reopened; send the request again")
            }),
            Error::ValueTaken { .. } => Self::new(StatusCode::CONFLICT, "taken", &error),
            _ if error.is_conflict() => Self::new(StatusCode::CONFLICT, "conflict", &error),
            _ if error.is_not_found() => Self::new(StatusCode::NOT_FOUND, "not_found", &error),
            _ if error.is_invalid() => Self::bad_request("invalid", &error),
            _ if error.is_temporary() => {
                with_log(Self::unavailable("unavailable", "the store is not available; try again"))
            }
            _ => with_log(Self::internal()),
        }
    }
}

impl<E: Rejection> From<ExecuteError<E>> for Failure {
    fn from(error: ExecuteError<E>) -> Self {
        match error {
            ExecuteError::Rejected(rejection) => {
                let (status, code) = rejection.code();
                Self::new(status, code, rejection)
            }
            ExecuteError::VersionMismatch { .. } => Self::version_mismatch(),
            ExecuteError::RejectedBefore { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "rejected_before", error)
            }
            ExecuteError::Conflict { .. } => {
                Self::unavailable("busy", "too many requests change this at once; try again")
            }
            ExecuteError::Store(error) => error.into(),
        }
    }
}

impl From<InvalidArgument> for Failure {
    fn from(error: InvalidArgument) -> Self {
        Error::from(error).into()
    }
}

impl From<ProjectionError> for Failure {
    fn from(error: ProjectionError) -> Self {
        match error {
            ProjectionError::Store(error) => error.into(),
            other => {
                log(&other);
                Self::behind()
            }
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = Json(json!({ "error": self.code, "message": self.text }));
        let mut response = (self.status, body).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// Writes to the log of the service.
pub fn log(text: impl fmt::Display) {
    eprintln!("{text}");
}
