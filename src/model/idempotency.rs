//! [`IdempotencyKey`] and [`RequestDigest`], which recognise a request that is sent again, and
//! [`KeyRetention`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::InvalidArgument;
use super::limits::{KEY_LEN_MAX, KEY_SCOPE_LEN_MAX, check_name};

/// Names a request, so that it is done once, however often it is sent: see
/// [`EventStore::submit_once`](crate::EventStore::submit_once).
///
/// It has three parts. The **scope** keeps the keys of different clients or operations apart, such
/// as `transfers`. The **key** is what the client sends, for example in the HTTP header
/// `Idempotency-Key`. The **digest** of the request detects a key that is used for two different
/// requests. Cloning is cheap.
///
/// ```
/// use annals::{IdempotencyKey, RequestDigest};
/// let digest = RequestDigest::of(br#"{"amount": 200}"#);
/// let key = IdempotencyKey::new("transfers", "5f1c", digest)?;
/// assert_eq!((key.scope(), key.key()), ("transfers", "5f1c"));
/// # Ok::<(), annals::InvalidArgument>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    /// The scope, a 0 byte, the key: neither contains a control character.
    name: Arc<str>,
    digest: RequestDigest,
}

impl IdempotencyKey {
    /// Checks the scope, which may have at most [`KEY_SCOPE_LEN_MAX`] bytes, and the key, which may
    /// have at most [`KEY_LEN_MAX`].
    ///
    /// # Errors
    /// [`InvalidArgument`]: one of them is empty, too long, or contains a control character.
    pub fn new(
        scope: impl AsRef<str>,
        key: impl AsRef<str>,
        digest: RequestDigest,
    ) -> Result<Self, InvalidArgument> {
        let (scope, key) = (scope.as_ref(), key.as_ref());
        check_name("the scope of an idempotency key", scope, KEY_SCOPE_LEN_MAX)?;
        check_name("idempotency key", key, KEY_LEN_MAX)?;
        Ok(Self { name: format!("{scope}\0{key}").into(), digest })
    }

    /// The scope.
    pub fn scope(&self) -> &str {
        self.parts().0
    }

    /// The key within its scope.
    pub fn key(&self) -> &str {
        self.parts().1
    }

    /// The digest of the request.
    pub fn digest(&self) -> RequestDigest {
        self.digest
    }

    /// Scope and key, without the digest.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn parts(&self) -> (&str, &str) {
        self.name.split_once('\0').unwrap_or((&self.name, ""))
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scope, key) = self.parts();
        write!(out, "{scope}/{key}")
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self}")
    }
}

/// A digest of a request: two requests with the same digest are taken to be the same.
///
/// ```
/// use annals::RequestDigest;
/// assert_eq!(RequestDigest::of(b"transfer 200"), RequestDigest::of(b"transfer 200"));
/// assert_ne!(RequestDigest::of(b"transfer 200"), RequestDigest::of(b"transfer 300"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestDigest([u8; 16]);

impl RequestDigest {
    /// Digests the bytes of a request with SHA-256, of which it keeps 16 bytes.
    pub fn of(request: impl AsRef<[u8]>) -> Self {
        let digest = Sha256::digest(request);
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(digest).for_each(|(byte, digest)| *byte = digest);
        Self(bytes)
    }

    /// Digests a request as JSON.
    ///
    /// # Errors
    /// The request cannot be written as JSON.
    pub fn of_json(request: &(impl Serialize + ?Sized)) -> Result<Self, serde_json::Error> {
        serde_json::to_vec(request).map(Self::of)
    }

    /// A digest that was computed elsewhere.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for RequestDigest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "RequestDigest({:032x})", u128::from_be_bytes(self.0))
    }
}

/// How long a store keeps idempotency keys: at least for a time *and* at least the newest ones of
/// all scopes together.
///
/// The time counts while the store is open for writing, by the monotonic clock of the machine, so a
/// change of the system's clock removes no key early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRetention {
    pub(crate) time: Duration,
    pub(crate) newest: u64,
}

impl KeyRetention {
    /// Keeps each key at least for this time, and at least this many of the newest keys.
    pub fn new(time: Duration, newest: u64) -> Self {
        Self { time, newest }
    }
}

impl Default for KeyRetention {
    /// A week, and a million keys.
    fn default() -> Self {
        Self::new(Duration::from_secs(7 * 24 * 60 * 60), 1_000_000)
    }
}
