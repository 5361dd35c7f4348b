//! umadb-core, used as in its server: a writer thread that commits all waiting requests, and
//! concurrent readers.
//!
//! It is an event store, but not of streams: an event has tags, and an append may be refused if
//! there are events of some tags after a position. So a stream is a tag here, and the caller's
//! expectation is the position up to which it has read. It keeps no versions, and no time unless
//! the application writes it into the metadata.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::{mpsc, oneshot, watch};
use umadb_core::db::UmaDb;
use umadb_core::mvcc::{Mvcc, StorageOptions};
use umadb_core::writer_thread_blocking::writer_thread_blocking;
use umadb_core::writer_thread_request::WriterThreadRequest;
use umadb_dcb::{
    DcbAppendCondition, DcbError, DcbEvent, DcbEventStoreSync, DcbQuery, DcbQueryItem,
    DcbSequencedEvent,
};
use uuid::Uuid;

use super::{Buffered, Checks, Entry, Role};
use crate::peers::contender::{
    Append, Contender, EVENT_TYPE, Failure, Result, Seen, Settings, Visit,
};

pub const ENTRY: Entry = Entry {
    name: "umadb",
    role: Role::Peer,
    open,
    buffered: Buffered::Unknown,
    concurrent: true,
    readable: true,
    checks: Checks::Positions,
    durability: "always synced: pages, then the header, for all callers that wait; it cannot do less",
    layout: "events by position, positions by tag; not compressed; checksums checked at each read of a page",
};

/// As in its server: how many requests may wait, and how many events one commit takes.
/// <https://github.com/umadb-io/umadb/blob/main/umadb-server/src/handler.rs>
const WAITING_MAX: usize = 1_024;
const COMMIT_EVENTS_MAX: usize = 2_048;
/// It returns one page of events at a time, in separate memory.
const PAGE_EVENTS: u32 = 4_096;

struct UmaDbContender {
    reader: UmaDb,
    requests: mpsc::Sender<WriterThreadRequest>,
    writer: JoinHandle<()>,
}

fn open(settings: &Settings) -> Result<Box<dyn Contender>> {
    // Its own defaults (file I/O, blocking commits), but with the same cache as all others here: by
    // default it has none.
    let options = StorageOptions::default()
        .db_path(settings.path.join("uma.db"))
        .page_cache_max_mb(settings.cache_bytes / 1_000_000);
    let mvcc = Arc::new(Mvcc::new(false, options)?);
    let reader = UmaDb::from_arc(mvcc.clone());
    let (requests, waiting) = mpsc::channel(WAITING_MAX);
    let (heads, _) = watch::channel(None);
    let writer = thread::Builder::new()
        .name("umadb-writer".to_owned())
        .spawn(move || writer_thread_blocking(mvcc, waiting, heads, COMMIT_EVENTS_MAX))?;
    Ok(Box::new(UmaDbContender { reader, requests, writer }))
}

/// Events of any of these streams.
fn of<'a>(streams: impl Iterator<Item = &'a str>) -> DcbQuery {
    DcbQuery::with_items(streams.map(|stream| DcbQueryItem::new().tags([stream])))
}

impl UmaDbContender {
    fn read(&self, query: &DcbQuery, visit: &mut Visit<'_>) -> Result<()> {
        let mut start = None;
        loop {
            let query = Some(query.clone());
            let page = self.reader.read(query, start, false, Some(PAGE_EVENTS))?.next_batch()?;
            page.iter().try_for_each(|event| show(event, visit))?;
            match page.last() {
                Some(last) if page.len() == PAGE_EVENTS as usize => start = Some(last.position + 1),
                _ => return Ok(()),
            }
        }
    }
}

impl Contender for UmaDbContender {
    fn append(&self, append: &Append<'_>) -> Result<u64> {
        let mut events = Vec::new();
        for part in &append.parts {
            events.extend(part.events.iter().map(|event| DcbEvent {
                event_type: EVENT_TYPE.to_owned(),
                tags: vec![part.stream.to_owned()],
                data: event.payload.to_vec(),
                uuid: Some(Uuid::from_bytes(event.id)),
                metadata: Vec::new(),
            }));
        }
        let streams = of(append.parts.iter().map(|part| part.stream));
        let seen = Some(append.as_of).filter(|position| *position > 0);
        let condition = DcbAppendCondition::new(streams).after(seen);
        let condition = append.is_conditional.then_some(condition);
        let (response_tx, response) = oneshot::channel();
        let request = WriterThreadRequest::Append {
            events,
            condition,
            tracking_info: None,
            response_tx,
            cancel: None,
        };
        self.requests.blocking_send(request).map_err(|_| "umadb's writer has ended")?;
        match response.blocking_recv()? {
            Ok(position) => Ok(position),
            Err(DcbError::IntegrityError(_)) => Err(Failure::Conflict),
            Err(error) => Err(error.into()),
        }
    }

    fn read_stream(&self, stream: &str, visit: &mut Visit<'_>) -> Result<()> {
        self.read(&of([stream].into_iter()), visit)
    }

    fn replay(&self, visit: &mut Visit<'_>) -> Result<()> {
        self.read(&DcbQuery::new(), visit)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.requests
            .blocking_send(WriterThreadRequest::Shutdown)
            .map_err(|_| "umadb's writer has ended")?;
        self.writer.join().map_err(|_| "umadb's writer panicked".into())
    }
}

fn show(event: &DcbSequencedEvent, visit: &mut Visit<'_>) -> Result<()> {
    let DcbEvent { event_type, data, uuid, .. } = &event.event;
    let id = uuid.ok_or("an event without an id")?.into_bytes();
    visit(Seen { position: event.position, id, event_type, payload: data });
    Ok(())
}
