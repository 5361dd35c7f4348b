//! Tasks of a process that is killed: they append and send requests through the async API, and
//! some of their futures are dropped at a random poll. A retry then finds what was stored (G1, G15).

use std::io::Write as _;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use annals::prelude::*;
use annals::{AsyncStore, Durability, KeyedResult, Position};
use futures_lite::future;

use super::{Written, lines};
use crate::append_to;
use crate::support::promises::{self, Heard};
use crate::support::random::Random;

const TASKS: u8 = 24;

/// Polls a future this often, then drops it.
async fn dropped_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..polls {
        if let Some(done) = future::poll_once(&mut future).await {
            return Some(done);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// Runs the tasks for as long as the process lives.
pub(super) fn run(heard: &Arc<Heard>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let tasks = (0..TASKS).map(|task| tokio::spawn(append(heard.clone(), task)));
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    });
}

/// Appends to a stream that only this task writes. Every append is sent until it is answered, with
/// the same events; every second one has a key, which earlier processes may have sent already.
async fn append(heard: Arc<Heard>, task: u8) {
    let (book, mut random) = (heard.decorator(), Random::from_entropy());
    let stream = StreamId::new(format!("task-{task}")).unwrap();
    let mut version = book.tasks().stream_version(&stream).await.unwrap();
    for round in 0_usize.. {
        let name = format!("task-{task}-{round}");
        let key = (round % 2 == 1).then_some(&name);
        let events = Written::new(task, round % 300).map(|event| {
            let event = event.encode().unwrap();
            key.into_iter().fold(event, |event, key| event.with_metadata("key", key))
        });
        let expected = version.map_or(ExpectedVersion::NoStream, ExpectedVersion::Exact);
        let durability = [Durability::Buffered, Durability::Sync][usize::from(random.is_one_of(9))];
        let append = Append::new().to(&stream, expected, events).with_durability(durability);
        let polls = random.below(6);
        let appended = if let Some(key) = key {
            let key = promises::request_key(key);
            let submit = || book.submit_once_as_task(&key, append.clone().into());
            let submitted = match dropped_after(polls, submit()).await {
                Some(submitted) => submitted,
                None => submit().await,
            };
            let KeyedResult::Appended(appended) = submitted.unwrap().result else {
                panic!("events were sent")
            };
            appended
        } else {
            match dropped_after(polls, book.submit_as_task(append.clone())).await {
                Some(appended) => appended.unwrap(),
                None => book.submit_as_task(append).await.unwrap(),
            }
        };
        // An earlier process may have done the request.
        version = version.max(appended.versions().first().map(|(_, versions)| *versions.end()));
    }
}

/// Follows the log as a task, from the end of the file.
pub(super) fn follow(store: &AsyncStore, path: &Path) {
    let mut file = append_to(path);
    let before = lines(path).last().and_then(|line| Position::new(line.parse().unwrap()));
    future::block_on(async {
        let mut feed = store.subscribe().after(before).start().await.unwrap();
        while let Some(delivery) = feed.next().await {
            if let Delivery::Event(event) = delivery.unwrap() {
                writeln!(file, "{}", event.position()).unwrap();
            }
        }
    });
}
