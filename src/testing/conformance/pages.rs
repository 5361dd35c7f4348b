//! The protocol of [`EventStore::read_page`]: each page returns its events and exactly the rest of
//! the range.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::reading::history;
use super::{event, events, log, position};
use crate::event_store::{
    Direction, EventStore, PageEnd, PageRequest, Query, QueryItem, Range, Scope,
};
use crate::extension::EventStoreExt;
use crate::model::{ExpectedVersion, RecordedEvent, StreamId, Version};

fn ranges() -> Vec<Range> {
    let log = |from: u64, to: u64| Range::log(position(from), position(to));
    let a = |from: u64, to: u64| {
        let stream = StreamId::new("a-1").unwrap();
        Range::stream(stream, Version::new(from).unwrap(), Version::new(to).unwrap())
    };
    vec![
        log(1, u64::MAX),
        log(1, u64::MAX).up_to(position(31)),
        log(5, 31),
        Range { from: 0, ..log(1, 31) },
        Range { from: 0, to: 0, ..log(1, 1) },
        log(5, 5),
        log(6, 5),
        log(10_000, u64::MAX),
        a(1, u64::MAX),
        a(2, 4),
        Range { from: 0, ..a(1, 4) },
        a(1, u64::MAX).up_to(position(40)),
        a(1_000, u64::MAX),
    ]
}

fn expected(log: &[RecordedEvent], request: &PageRequest) -> Vec<RecordedEvent> {
    let Range { scope, from, to, up_to } = &request.range;
    let is_within = |event: &&RecordedEvent| {
        let place = match scope {
            Scope::Log => Some(event.position().get()),
            Scope::Stream(stream) => {
                Some(event.version().get()).filter(|_| event.stream() == stream)
            }
        };
        place.is_some_and(|place| (*from..=*to).contains(&place)) && event.position() <= *up_to
    };
    let events =
        log.iter().filter(is_within).filter(|event| request.query.matches(&event.as_ref()));
    let mut events: Vec<_> = events.cloned().collect();
    if request.direction == Direction::Backward {
        events.reverse();
    }
    events
}

fn requests() -> impl Iterator<Item = PageRequest> {
    let item = QueryItem::new().types(["Closed"]).stream_prefix("a");
    let queries = [Query::Everything, item.into()];
    ranges().into_iter().flat_map(move |range| {
        let queries = queries.clone();
        [Direction::Forward, Direction::Backward].into_iter().flat_map(move |direction| {
            let range = range.clone();
            queries.clone().into_iter().map(move |query| PageRequest {
                range: range.clone(),
                direction,
                query,
                events_max: usize::MAX,
            })
        })
    })
}

/// Reading the rest until it is empty returns each event of the range once, in order.
pub fn log_pages_of_any_size_cover_the_whole_range(store: &Arc<dyn EventStore>) {
    let log = history(store);
    for request in requests() {
        for events_max in [1, 2, 7, 1_000] {
            let (mut request, mut read, mut pages) =
                (PageRequest { events_max, ..request.clone() }, Vec::new(), 0);
            let expected = expected(&log, &request);
            loop {
                let mut count = 0;
                let end = store.read_page(&request, &mut |event| {
                    count += 1;
                    read.push(event.to_owned());
                    ControlFlow::Continue(())
                });
                assert!(count <= events_max, "a page of {events_max} holds {count}");
                pages += 1;
                assert!(pages <= 2 * log.len() + 2, "the pages do not end");
                match end.unwrap().rest {
                    Some(range) => request.range = range,
                    None => break,
                }
            }
            assert_eq!(read, expected, "{request:?}");
        }
    }
}

/// Wherever the break comes, the rest begins with the next event.
pub fn break_ends_the_page_after_the_current_event(store: &Arc<dyn EventStore>) {
    let log = history(store);
    for request in requests() {
        let expected = expected(&log, &request);
        for stop in 1..=expected.len() {
            let mut read = Vec::new();
            let mut rest = Some(request.range.clone());
            // A page may be shorter than requested: continue until the visitor breaks.
            while let Some(range) = rest.take().filter(|_| read.len() < stop) {
                let request = PageRequest { range, ..request.clone() };
                let end = store.read_page(&request, &mut |event| {
                    read.push(event.to_owned());
                    if read.len() == stop {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                });
                rest = end.unwrap().rest;
                if read.len() == stop {
                    break;
                }
            }
            assert_eq!(read, expected[..stop], "stopped after {stop}: {request:?}");
            while let Some(range) = rest.take() {
                let request = PageRequest { range, ..request.clone() };
                let end = store.read_page(&request, &mut |event| {
                    read.push(event.to_owned());
                    ControlFlow::Continue(())
                });
                rest = end.unwrap().rest;
            }
            assert_eq!(read, expected, "resumed after {stop}: {request:?}");
        }
    }
}

/// This holds for any range, and no event is lost.
pub fn page_of_no_events_visits_nothing(store: &Arc<dyn EventStore>) {
    let log = history(store);
    for request in requests() {
        let none = PageRequest { events_max: 0, ..request.clone() };
        let end = store.read_page(&none, &mut |event| panic!("visited {event:?}"));
        let PageEnd { rest, .. } = end.unwrap();
        let expected = expected(&log, &request);
        let left = rest.map_or(0, |range| {
            let mut left = 0;
            let mut rest = Some(range);
            while let Some(range) = rest.take() {
                let request = PageRequest { range, ..request.clone() };
                let end = store.read_page(&request, &mut |_| {
                    left += 1;
                    ControlFlow::Continue(())
                });
                rest = end.unwrap().rest;
            }
            left
        });
        assert_eq!(left, expected.len(), "{request:?}");
    }
}

/// Reading or appending inside a visitor neither blocks nor changes the visited events.
pub fn visitor_may_call_the_store(store: &Arc<dyn EventStore>) {
    store.append("a", ExpectedVersion::NoStream, events(5)).unwrap();
    let mut visited = Vec::new();
    store
        .read_log()
        .for_each(|outer| {
            store.append("b", ExpectedVersion::Any, [event("Seen", visited.len())]).unwrap();
            let inner = store.read_stream("a").from(outer.version()).first().unwrap().unwrap();
            assert_eq!(inner, outer.to_owned());
            visited.push(inner);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(visited, log(store)[..5]);
    assert_eq!(store.head().unwrap(), Some(position(10)));
}
