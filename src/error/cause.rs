//! [`Cause`]: the underlying cause of an error.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The underlying cause of an error, from I/O, RocksDB or a codec. It is shared, so that an error
/// can be cloned.
///
/// It dereferences to the error itself: `cause.downcast_ref::<std::io::Error>()` works both here
/// and through [`source`](std::error::Error::source).
#[derive(Clone)]
pub struct Cause(Arc<dyn std::error::Error + Send + Sync>);

impl Cause {
    /// Wraps an error.
    pub fn new(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(error))
    }
}

impl From<Box<dyn std::error::Error + Send + Sync>> for Cause {
    fn from(error: Box<dyn std::error::Error + Send + Sync>) -> Self {
        Self(error.into())
    }
}

impl Deref for Cause {
    type Target = dyn std::error::Error + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, out)
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, out)
    }
}

/// Code of the application panicked.
#[derive(Debug, thiserror::Error)]
#[error("{what} panicked: {message}")]
struct Panicked {
    what: &'static str,
    message: String,
}

/// Runs code of the application, such as `what`, and turns a panic into an error. A panic may leave
/// half changed only what that code can change.
pub(crate) fn guarded<T>(what: &'static str, run: impl FnOnce() -> T) -> Result<T, Cause> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let message = message_of(&*panic);
        Cause::new(Panicked { what, message })
    })
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "without a message".to_owned())
}
