//! Events for the crate `tracing`, with the feature of that name: rare events for operators, and
//! each batch of a projection. An append emits no event.

/// Emits an event of the target `annals`; nothing without the feature `tracing`. Its arguments must
/// be cheap: they are evaluated only with the feature.
macro_rules! event {
    ($level:ident, $($arguments:tt)*) => {
        #[cfg(feature = "tracing")]
        tracing::$level!(target: "annals", $($arguments)*);
    };
}

pub(crate) use event;

/// Measures a batch of a projection, if events of the level debug are collected.
pub(crate) struct BatchTimer {
    #[cfg(feature = "tracing")]
    started: Option<std::time::Instant>,
}

impl BatchTimer {
    pub(crate) fn start() -> Self {
        Self {
            #[cfg(feature = "tracing")]
            started: tracing::enabled!(target: "annals", tracing::Level::DEBUG)
                .then(std::time::Instant::now),
        }
    }

    /// Emits the event for a batch that was written.
    pub(crate) fn written(&self, projection: &str, events: usize, position: u64) {
        #[cfg(feature = "tracing")]
        if let Some(started) = self.started {
            let milliseconds = started.elapsed().as_secs_f64() * 1e3;
            event!(debug, projection, events, position, milliseconds, "a projection wrote a batch");
        }
        #[cfg(not(feature = "tracing"))]
        let _ = (self, projection, events, position);
    }
}
