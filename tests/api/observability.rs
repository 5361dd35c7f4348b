//! What an operator's tools get: the facade `metrics`, and events of `tracing`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once};

use annals::prelude::*;
use annals::{StoreMetrics, Target};
use tracing::subscriber::{Interest, NoSubscriber};

use crate::support::{SOON, events, place, quick};

/// The last value of each metric, by name and labels.
#[derive(Clone, Default)]
struct Recorded(Arc<Mutex<BTreeMap<String, f64>>>);

struct Cell(String, Recorded);

impl Cell {
    fn set(&self, value: f64) {
        self.1.0.lock().unwrap().insert(self.0.clone(), value);
    }
}

#[expect(clippy::cast_precision_loss, reason = "the counts are small")]
impl metrics::CounterFn for Cell {
    fn increment(&self, _: u64) {
        panic!("counts are absolute");
    }
    fn absolute(&self, value: u64) {
        self.set(value as f64);
    }
}

impl metrics::GaugeFn for Cell {
    fn increment(&self, _: f64) {
        panic!("gauges are set");
    }
    fn decrement(&self, _: f64) {
        panic!("gauges are set");
    }
    fn set(&self, value: f64) {
        Cell::set(self, value);
    }
}

impl Recorded {
    fn cell(&self, key: &metrics::Key) -> Arc<Cell> {
        let labels = key.labels().map(|label| format!(" {}={}", label.key(), label.value()));
        Arc::new(Cell(key.name().to_owned() + &labels.collect::<String>(), self.clone()))
    }

    fn get(&self, name: &str) -> f64 {
        let recorded = self.0.lock().unwrap();
        *recorded.get(name).unwrap_or_else(|| panic!("{name} is not in {recorded:?}"))
    }
}

impl metrics::Recorder for Recorded {
    fn describe_counter(
        &self,
        _: metrics::KeyName,
        _: Option<metrics::Unit>,
        _: metrics::SharedString,
    ) {
    }
    fn describe_gauge(
        &self,
        _: metrics::KeyName,
        _: Option<metrics::Unit>,
        _: metrics::SharedString,
    ) {
    }
    fn describe_histogram(
        &self,
        _: metrics::KeyName,
        _: Option<metrics::Unit>,
        _: metrics::SharedString,
    ) {
    }
    fn register_counter(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        metrics::Counter::from_arc(self.cell(key))
    }
    fn register_gauge(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::from_arc(self.cell(key))
    }
    fn register_histogram(
        &self,
        _: &metrics::Key,
        _: &metrics::Metadata<'_>,
    ) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Happened(u64);
annals::domain_events! { Happened => "Counted" }

struct Counting;

impl Projection for Counting {
    type Event = Happened;

    fn name(&self) -> &'static str {
        "counting"
    }

    fn handle(&self, _: &TypedEvent<Happened>, view: &mut ViewWriter) -> Result<(), HandlerError> {
        Ok(view.update("count", |count: &mut u64| *count += 1)?)
    }
}

#[test]
fn metrics_reach_the_recorder_of_the_application() {
    let (_directory, path) = place();
    let store = quick().open(&path).unwrap();
    store.append("a", ExpectedVersion::NoStream, events(3)).unwrap();
    store.append("a", ExpectedVersion::NoStream, events(1)).unwrap_err();
    store.append("a\n", ExpectedVersion::NoStream, events(1)).unwrap_err();
    store.sync().unwrap();
    let counted = Happened(1).encode().unwrap();
    let last = store.append("b", ExpectedVersion::Any, [counted]).unwrap().last_position();
    let projections = ProjectionManager::new(&store).register(Counting).unwrap();
    projections.start().unwrap();
    projections.wait_for("counting", last, SOON).unwrap();

    let recorded = Recorded::default();
    metrics::with_local_recorder(&recorded, || {
        store.metrics().unwrap().record("bank");
        let mut status = projections.status("counting").unwrap();
        (status.failed_tries, status.parked_events, status.skipped_events) = (1, 2, 3);
        status.record();
    });
    for (name, value) in [
        ("annals_appends_total store=bank", 2.0),
        ("annals_appended_events_total store=bank", 4.0),
        ("annals_conflicts_total store=bank", 1.0),
        ("annals_refused_total store=bank reason=invalid", 1.0),
        ("annals_refused_total store=bank reason=poisoned", 0.0),
        ("annals_version_cache_total store=bank result=hit", 1.0),
        ("annals_head store=bank", 4.0),
        ("annals_durable store=bank", 3.0),
        ("annals_subscriptions store=bank", 1.0),
        ("annals_writes_stopped store=bank", 0.0),
        ("annals_projection_handled_total projection=counting", 1.0),
        ("annals_projection_failed_tries_total projection=counting", 1.0),
        ("annals_projection_lag_events projection=counting", 0.0),
        ("annals_projection_lag_seconds projection=counting", 0.0),
        ("annals_projection_parked_events projection=counting", 2.0),
        ("annals_projection_skipped_events projection=counting", 3.0),
    ] {
        assert!((recorded.get(name) - value).abs() < 0.5, "{name} is {}", recorded.get(name));
    }
    assert!(recorded.get("annals_view_commits_total store=bank") >= 1.0);
    assert!(recorded.get("annals_appended_bytes_total store=bank") > 100.0);
}

#[test]
fn each_metric_is_recorded_under_its_name() {
    let mut metrics = StoreMetrics::default();
    let (refused, engine) = (&mut metrics.refused, &mut metrics.engine);
    let fields = [
        ("appends_total", "", &mut metrics.appends),
        ("appended_events_total", "", &mut metrics.events),
        ("appended_bytes_total", "", &mut metrics.frame_bytes),
        ("retries_total", "", &mut metrics.retries),
        ("keys_total", "", &mut metrics.keys),
        ("all_keys", "", &mut metrics.all_keys),
        ("async_waiting_bytes", "", &mut metrics.async_waiting_bytes),
        ("conflicts_total", "", &mut metrics.conflicts),
        ("view_commits_total", "", &mut metrics.view_commits),
        ("snapshots_total", "", &mut metrics.snapshots),
        ("version_cache_total", " result=hit", &mut metrics.version_cache_hits),
        ("version_cache_total", " result=miss", &mut metrics.version_cache_misses),
        ("refused_total", " reason=invalid", &mut refused.invalid),
        ("refused_total", " reason=partial_retry", &mut refused.partial_retries),
        ("refused_total", " reason=key_reused", &mut refused.keys_reused),
        ("refused_total", " reason=disk_full", &mut refused.disk_full),
        ("refused_total", " reason=indeterminate", &mut refused.indeterminate),
        ("refused_total", " reason=poisoned", &mut refused.poisoned),
        ("refused_total", " reason=other", &mut refused.other),
        ("memtable_bytes", "", &mut engine.memtable_bytes),
        ("table_bytes", "", &mut engine.table_bytes),
        ("block_cache_bytes", "", &mut engine.block_cache_bytes),
        ("pending_compaction_bytes", "", &mut engine.pending_compaction_bytes),
        ("disk_free_bytes", "", engine.disk_free_bytes.insert(0)),
    ];
    let mut expected = Vec::new();
    for ((metric, label, field), value) in fields.into_iter().zip(1_u8..) {
        *field = value.into();
        expected.push((format!("annals_{metric} store=bank{label}"), f64::from(value)));
    }
    let recorded = Recorded::default();
    metrics::with_local_recorder(&recorded, || metrics.record("bank"));
    let found = expected.iter().map(|(name, _)| (name.clone(), recorded.get(name)));
    assert_eq!(found.collect::<Vec<_>>(), expected);
}

/// Keeps the texts of events.
#[derive(Clone, Default)]
struct Texts(Arc<Mutex<Vec<String>>>);

struct Visit(String);

impl tracing::field::Visit for Visit {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, "{}={value:?} ", field.name());
    }
}

thread_local! {
    /// Where the events of this thread go.
    static TEXTS: RefCell<Option<Texts>> = const { RefCell::new(None) };
}

/// The subscriber of the process. A subscriber for one thread would miss events: the crate
/// `tracing` remembers that nothing collected an event when another thread reached it first.
struct ByThread;

impl tracing::Subscriber for ByThread {
    fn register_callsite(&self, _: &'static tracing::Metadata<'static>) -> Interest {
        Interest::sometimes()
    }
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        let is_collected = || TEXTS.try_with(|texts| texts.borrow().is_some());
        metadata.target() == "annals" && is_collected().unwrap_or(false)
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        panic!("no spans")
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut visit = Visit(format!("{} ", event.metadata().level()));
        event.record(&mut visit);
        TEXTS.with_borrow(|texts| {
            let Texts(texts) = texts.as_ref().unwrap();
            texts.lock().unwrap().push(visit.0);
        });
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// Collects the events of this thread from now on.
fn collect(texts: &Texts) {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        tracing::subscriber::set_global_default(ByThread).unwrap();
        // A further subscriber makes `tracing` ask all of them again.
        drop(tracing::Dispatch::new(NoSubscriber::default()));
    });
    TEXTS.set(Some(texts.clone()));
}

#[test]
fn opening_and_backups_are_traced_and_appends_are_not() {
    let (directory, path) = place();
    let texts = Texts::default();
    collect(&texts);
    let store = quick().open(&path).unwrap();
    for _ in 0..10 {
        store.append("a", ExpectedVersion::Any, events(3)).unwrap();
    }
    store.backup(directory.path().join("backup")).unwrap();
    let texts = texts.0.lock().unwrap();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(texts[0].starts_with("INFO message=opened the store path="), "{texts:?}");
    assert!(texts[1].contains("made a backup") && texts[1].contains("head=30"), "{texts:?}");
}

/// Collects the events of its own thread. Fails once for 13.
struct Traced {
    texts: Texts,
    has_failed: AtomicBool,
}

impl Projection for Traced {
    type Event = Happened;

    fn name(&self) -> &'static str {
        "traced"
    }

    fn target(&self) -> Target {
        Target::External
    }

    fn reset(&self) -> Result<(), HandlerError> {
        collect(&self.texts);
        Ok(())
    }

    fn handle(&self, event: &TypedEvent<Happened>, _: &mut ViewWriter) -> Result<(), HandlerError> {
        let is_bad = event.event.0 == 13 && !self.has_failed.swap(true, Ordering::Relaxed);
        if is_bad { Err("thirteen".into()) } else { Ok(()) }
    }
}

#[test]
fn batches_and_failures_of_projections_are_traced() {
    let store = MemoryStore::new();
    let counted = [1, 2, 13, 4].map(|number| Happened(number).encode().unwrap());
    let last = store.append("a", ExpectedVersion::Any, counted).unwrap().last_position();
    let texts = Texts::default();
    let projections = ProjectionManager::new(&store);
    let traced = Traced { texts: texts.clone(), has_failed: AtomicBool::new(false) };
    let projections = projections.register(traced).unwrap();
    projections.start().unwrap();
    projections.wait_for("traced", last, SOON).unwrap();
    projections.stop();
    let texts = texts.0.lock().unwrap();
    let starts = [
        "DEBUG message=a projection wrote a batch projection=\"traced\" events=2 position=2 \
         milliseconds=",
        "WARN message=a projection failed projection=traced outcome=Retried failure=failed at \
         position 3 after 1 try: thirteen ",
        "DEBUG message=a projection wrote a batch projection=\"traced\" events=2 position=4 \
         milliseconds=",
    ];
    assert_eq!(texts.len(), starts.len(), "{texts:?}");
    for (text, start) in texts.iter().zip(starts) {
        assert!(text.starts_with(start), "{text}");
    }
}
