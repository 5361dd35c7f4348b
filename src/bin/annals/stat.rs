//! `annals stat`: summarises a store.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

use annals::audit::printable;
use annals::{
    EventStore, EventStoreExt, IndexStatus, Position, Retention, RetentionScope, Scavenged,
    StoreInfo, StoreMetrics, StreamId, Timestamp, Version,
};
use serde_json::{Map, Value, json};

use super::shell::{Failure, Shell, count, grouped, long, progress};
use super::{index, retain, views};

/// Summarise a store: events, streams, types, head, times, size, read models
///
/// Reads the whole log to count its types. With --json: one object with store_id, created_at,
/// format_version, epoch, is_backup, events, deleted_events, streams, types, head (null in an empty
/// store), first_time, last_time, table_bytes, disk_free_bytes (or null), keys (idempotency keys that
/// were ever recorded), index (as `annals index` shows it), deletions (their number), retentions (as
/// `annals retain` lists them), due (what the next scavenge would delete: events and bytes),
/// event_types (the number of events of each type), views (as `annals views` lists them), and, if
/// this machine's clock is behind the last event, clock_behind_us.
#[derive(clap::Args)]
#[expect(clippy::doc_markdown, reason = "this is the help text, which has no markup")]
#[command(after_help = "Example:\n  annals stat bank.annals --json | jq .events")]
pub(crate) struct Args {
    /// The store's directory
    dir: PathBuf,
}

/// Facts about a store.
struct Facts {
    info: StoreInfo,
    metrics: StoreMetrics,
    index: IndexStatus,
    deletions: u64,
    retentions: Vec<(RetentionScope, Retention)>,
    /// What the retentions would delete now.
    due: Scavenged,
    views: Vec<views::Summary>,
    census: Census,
}

/// Facts that only the events hold.
#[derive(Default)]
struct Census {
    events: u64,
    types: BTreeMap<String, u64>,
    first_time: Option<Timestamp>,
    last_time: Option<Timestamp>,
}

impl Facts {
    fn deleted_events(&self) -> u64 {
        self.info.head.map_or(0, Position::get).saturating_sub(self.census.events)
    }
}

pub(crate) fn run(args: &Args, shell: &Shell) -> Result<(), Failure> {
    let store = shell.open_to_read(&args.dir)?;
    let info = store.info()?;
    let head = info.head.map_or(0, Position::get);
    let bar = progress(Some(head), "{bar:30} {pos} of {len} events (about {eta} left)");
    let mut census = Census::default();
    store.read_log().for_each(|event| {
        census.events += 1;
        match census.types.get_mut(event.event_type()) {
            Some(count) => *count += 1,
            None => {
                census.types.insert(event.event_type().to_owned(), 1);
            }
        }
        census.first_time.get_or_insert(event.recorded_at());
        census.last_time = Some(event.recorded_at());
        if event.position().get().is_multiple_of(4_096) {
            bar.set_position(event.position().get());
        }
        ControlFlow::Continue(())
    })?;
    bar.finish_and_clear();
    let (metrics, views) = (store.metrics()?, views::summarize(&store)?);
    let index = store.index_status()?;
    let deletions = store.stream_version(&StreamId::deletions())?.map_or(0, Version::get);
    let retentions = store.retentions()?;
    let due =
        if retentions.is_empty() { Scavenged::default() } else { store.preview_scavenge()? };
    let facts = Facts { info, metrics, index, deletions, retentions, due, views, census };
    // Closed before printing, so that a pager does not keep it open.
    store.close()?;
    let mut out = BufWriter::new(io::stdout().lock());
    if shell.json {
        writeln!(out, "{}", object(&facts))?;
    } else {
        for_people(&mut out, &facts)?;
    }
    out.flush()?;
    Ok(())
}

fn object(facts: &Facts) -> Value {
    let Facts { info, metrics, index, deletions, due, views, census, .. } = facts;
    let retentions = facts.retentions.iter();
    let retentions = retentions.map(|(scope, retention)| retain::object(scope, *retention));
    let views: Vec<&Value> = views.iter().map(|view| &view.object).collect();
    let types: Map<String, Value> =
        census.types.iter().map(|(name, count)| (name.clone(), json!(count))).collect();
    let mut object = json!({
        "store_id": info.store_id.to_string(),
        "created_at": info.created_at.to_string(),
        "format_version": info.format_version,
        "epoch": info.epoch.to_string(),
        "is_backup": info.is_backup,
        "events": census.events,
        "deleted_events": facts.deleted_events(),
        "streams": info.streams,
        "types": census.types.len(),
        "head": info.head.map(Position::get),
        "first_time": census.first_time.map(|time| time.to_string()),
        "last_time": census.last_time.map(|time| time.to_string()),
        "table_bytes": info.table_bytes,
        "disk_free_bytes": metrics.engine.disk_free_bytes,
        "keys": metrics.all_keys,
        "index": index::object(index),
        "deletions": deletions,
        "retentions": retentions.collect::<Vec<_>>(),
        "due": { "events": due.events, "bytes": due.bytes },
        "event_types": types,
        "views": views,
    });
    if let (Some(behind), Some(object)) = (info.clock_behind, object.as_object_mut()) {
        let micros = u64::try_from(behind.as_micros()).unwrap_or(u64::MAX);
        object.insert("clock_behind_us".to_owned(), json!(micros));
    }
    object
}

fn for_people(out: &mut impl Write, facts: &Facts) -> io::Result<()> {
    let Facts { info, metrics, index, views, census, .. } = facts;
    let or_none = |time: Option<Timestamp>| time.map_or("none".to_owned(), |time| time.to_string());
    writeln!(out, "store        {}", info.path.display())?;
    writeln!(out, "id           {}", info.store_id)?;
    writeln!(out, "created      {}", info.created_at)?;
    writeln!(out, "format       {}", info.format_version)?;
    let backup =
        if info.is_backup { ", a backup: opening it for writing begins another epoch" } else { "" };
    writeln!(out, "epoch        {}{backup}", info.epoch)?;
    writeln!(out, "events       {}", grouped(census.events))?;
    writeln!(out, "streams      {}", grouped(info.streams))?;
    writeln!(out, "types        {}", census.types.len())?;
    let head = info.head.map_or("none".to_owned(), |head| head.to_string());
    writeln!(out, "head         {head}")?;
    writeln!(out, "first event  {}", or_none(census.first_time))?;
    writeln!(out, "last event   {}", or_none(census.last_time))?;
    writeln!(out, "table files  {} bytes", grouped(info.table_bytes))?;
    if let Some(free) = metrics.engine.disk_free_bytes {
        writeln!(out, "disk free    {} bytes", grouped(free))?;
    }
    let keys = count(metrics.all_keys, "idempotency key");
    writeln!(out, "keys         {keys} ever recorded")?;
    let by = [("types", index.types_from), ("categories", index.categories_from)];
    write!(out, "index        tags: {}", index::for_people(index.tags_from))?;
    for (name, from) in by.into_iter().filter(|(_, from)| from.is_some()) {
        write!(out, ", {name}: {}", index::for_people(from))?;
    }
    writeln!(out)?;
    deletions_for_people(out, facts)?;
    for view in views {
        writeln!(out, "read model   {}  {}", view.name, view.text)?;
    }
    if let Some(behind) = info.clock_behind {
        writeln!(
            out,
            "clock        {} behind the last event: until it has caught up, events are recorded at that one's time",
            long(behind)
        )?;
    }
    if !census.types.is_empty() {
        writeln!(out)?;
    }
    for (name, count) in &census.types {
        writeln!(out, "{:>11}  {}", grouped(*count), printable(name))?;
    }
    Ok(())
}

/// What was deleted, and what the retentions would delete.
fn deletions_for_people(out: &mut impl Write, facts: &Facts) -> io::Result<()> {
    if facts.deletions > 0 {
        let (events, deletions) = (facts.deleted_events(), count(facts.deletions, "deletion"));
        writeln!(out, "deleted      {} by {deletions}", count(events, "event"))?;
    }
    for (scope, retention) in &facts.retentions {
        let (scope, kept) = (retain::named(scope), retain::for_people(*retention));
        writeln!(out, "retention    {scope}: kept {kept}")?;
    }
    if !facts.retentions.is_empty() {
        let (events, bytes) = (count(facts.due.events, "event"), grouped(facts.due.bytes));
        writeln!(out, "due          a scavenge would delete {events}, about {bytes} bytes")?;
    }
    Ok(())
}
