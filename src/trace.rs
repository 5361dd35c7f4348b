//! Events for the crate `tracing`, if the feature of that name is on: what happens rarely and
//! matters to an operator, never a span for each append.

/// Emits an event of the target `annals`; nothing without the feature `tracing`. Its arguments must
/// be cheap: they are evaluated only with the feature.
macro_rules! event {
    ($level:ident, $($arguments:tt)*) => {
        #[cfg(feature = "tracing")]
        tracing::$level!(target: "annals", $($arguments)*);
    };
}

pub(crate) use event;
