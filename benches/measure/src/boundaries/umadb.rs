//! Conditional appends next to umadb-core, with one tag and one type each, both synced.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use annals::{Append, Durability, Position, QueryItem, Store};
use tokio::sync::{mpsc, oneshot, watch};
use umadb_core::mvcc::{Mvcc, StorageOptions};
use umadb_core::writer_thread_blocking::writer_thread_blocking;
use umadb_core::writer_thread_request::WriterThreadRequest;
use umadb_dcb::{DcbAppendCondition, DcbError, DcbEvent, DcbQuery, DcbQueryItem};
use uuid::Uuid;

use super::cost::{Annals, PAYLOAD, TYPE, event};
use super::load::{Turn, Writes, per_second};
use super::{Args, Table};
use crate::place::Place;
use crate::{Failure, Result};

/// As in its server: how many requests may wait, and how many events one commit takes.
/// <https://github.com/umadb-io/umadb/blob/main/umadb-server/src/handler.rs>
const WAITING_MAX: usize = 1_024;
const COMMIT_EVENTS_MAX: usize = 2_048;
/// Its page cache; annals has a block cache of 64 MiB.
const CACHE_MB: usize = 64;

/// What the conditions name.
#[derive(Debug, Clone, Copy)]
enum Tags {
    /// Each writer its own tag.
    Own,
    /// All writers the same tag, each with its own type.
    Shared,
}

impl Tags {
    fn names(self, writer: u64) -> (String, String) {
        match self {
            Self::Own => (format!("writer:{writer}"), TYPE.to_owned()),
            Self::Shared => ("shared".to_owned(), format!("Type{writer}")),
        }
    }
}

pub fn compare(args: &Args, place: &Place) -> Result<Vec<Table>> {
    let mut tables = Vec::new();
    for (tags, title) in [
        (Tags::Own, "Conditional appends next to umadb-core, own tags"),
        (Tags::Shared, "Conditional appends next to umadb-core, one shared tag"),
    ] {
        let mut table = Table::new(title, "events/s");
        for round in 0..args.rounds {
            eprintln!("{title}, round {}", round + 1);
            for writers in &args.writers {
                let [ours, theirs] =
                    ["annals", "umadb"].map(|store| format!("{store}, {writers} writers"));
                let figure = place.within("annals", |path| {
                    let store = Store::options().durability(Durability::Sync).open(path)?;
                    let target = Annals::new(&store, move |turn| append(tags, turn));
                    let figure = per_second(&target, *writers, args.seconds)?;
                    drop(target);
                    store.close()?;
                    Ok(figure)
                })?;
                table.note(&ours, figure, &theirs);
                let figure = place.within("umadb", |path| {
                    let (target, writer) = UmaDb::open(path, tags)?;
                    let figure = per_second(&target, *writers, args.seconds)?;
                    target
                        .requests
                        .blocking_send(WriterThreadRequest::Shutdown)
                        .map_err(|_| ended())?;
                    writer.join().map_err(|_| "umadb's writer panicked")?;
                    Ok(figure)
                })?;
                table.note(&theirs, figure, &theirs);
            }
        }
        tables.push(table);
    }
    Ok(tables)
}

fn append(tags: Tags, turn: Turn) -> Append {
    let (tag, name) = tags.names(turn.writer);
    let event = match tags {
        Tags::Own => event([tag.clone()]),
        #[expect(clippy::unwrap_used, reason = "the type is valid")]
        Tags::Shared => {
            annals::NewEvent::bytes(name.as_str(), PAYLOAD.to_vec()).unwrap().with_tag(tag.clone())
        }
    };
    let item = QueryItem::new().tag(tag).types([name]);
    Append::of([event]).fail_if(item).after(Position::new(turn.last))
}

struct UmaDb {
    requests: mpsc::Sender<WriterThreadRequest>,
    tags: Tags,
}

fn ended() -> Failure {
    "umadb's writer has ended".into()
}

impl UmaDb {
    fn open(path: &std::path::Path, tags: Tags) -> Result<(Arc<Self>, JoinHandle<()>)> {
        let options = StorageOptions::default().db_path(path.join("uma.db"));
        let mvcc = Arc::new(Mvcc::new(false, options.page_cache_max_mb(CACHE_MB))?);
        let (requests, waiting) = mpsc::channel(WAITING_MAX);
        let (heads, _) = watch::channel(None);
        let writer = thread::Builder::new()
            .name("umadb-writer".to_owned())
            .spawn(move || writer_thread_blocking(mvcc, waiting, heads, COMMIT_EVENTS_MAX))?;
        Ok((Arc::new(Self { requests, tags }), writer))
    }

    fn request(
        &self,
        turn: Turn,
    ) -> (WriterThreadRequest, oneshot::Receiver<Result<u64, DcbError>>) {
        let (tag, name) = self.tags.names(turn.writer);
        let query =
            DcbQuery::with_items([DcbQueryItem::new().tags([tag.as_str()]).types([name.as_str()])]);
        let after = Some(turn.last).filter(|last| *last > 0);
        let events = vec![DcbEvent {
            event_type: name,
            tags: vec![tag],
            data: PAYLOAD.to_vec(),
            uuid: Some(Uuid::now_v7()),
            metadata: Vec::new(),
        }];
        let condition = Some(DcbAppendCondition::new(query).after(after));
        let (response_tx, response) = oneshot::channel();
        let request = WriterThreadRequest::Append {
            events,
            condition,
            tracking_info: None,
            response_tx,
            cancel: None,
        };
        (request, response)
    }
}

impl Writes for UmaDb {
    fn write(&self, turn: Turn) -> Result<u64> {
        let (request, response) = self.request(turn);
        self.requests.blocking_send(request).map_err(|_| ended())?;
        Ok(response.blocking_recv()??)
    }

    async fn write_as_task(&self, turn: Turn) -> Result<u64> {
        let (request, response) = self.request(turn);
        self.requests.send(request).await.map_err(|_| ended())?;
        Ok(response.await??)
    }
}
