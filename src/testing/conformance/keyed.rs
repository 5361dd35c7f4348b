//! Rules for idempotency keys: a request is done once, however often it is sent (G15).

use std::sync::{Arc, Barrier};
use std::thread;

use super::{contents, event, events, version};
use crate::error::Error;
use crate::event_store::{Append, Appended, EventStore, KeyedResult, KeyedSubmission, Submitted};
use crate::extension::EventStoreExt;
use crate::model::limits::REJECTION_LEN_MAX;
use crate::model::{ExpectedVersion, IdempotencyKey, RequestDigest};
use crate::options::Durability;

fn key(name: &str, request: &str) -> IdempotencyKey {
    IdempotencyKey::new("requests", name, RequestDigest::of(request)).unwrap()
}

fn appended(submitted: &Submitted) -> &Appended {
    match &submitted.result {
        KeyedResult::Appended(appended) => appended,
        other => panic!("it should have been appended: {other:?}"),
    }
}

/// The result is that of the first call, though the events have new ids and the streams have moved.
pub fn request_with_a_key_is_done_once(store: &Arc<dyn EventStore>) {
    use ExpectedVersion::{Any, Exact, NoStream};
    for (expected, name) in [(Any, "any"), (NoStream, "none"), (Exact(version(1)), "exact")] {
        if matches!(expected, Exact(_)) {
            store.append(name, NoStream, events(1)).unwrap();
        }
        let request = || {
            let other = format!("{name}-other");
            Append::new().to(name, expected, events(2)).to(other, Any, events(1)).to(
                name,
                expected,
                events(1),
            )
        };
        let key = key(name, "once");
        assert_eq!(store.find_submitted(&key).unwrap(), None);
        let first = store.submit_once(&key, request().into()).unwrap();
        assert!(!first.is_retry && !appended(&first).is_retry());
        store.append(name, Any, events(3)).unwrap();
        let before = contents(store);
        for _ in 0..2 {
            let again = store.submit_once(&key, request().into()).unwrap();
            assert!(again.is_retry && appended(&again).is_retry());
            assert!(appended(&again).positions().eq(appended(&first).positions()));
            assert_eq!(appended(&again).versions(), appended(&first).versions());
            assert_eq!(contents(store), before, "a retry wrote something");
        }
        let found = store.find_submitted(&key).unwrap().unwrap();
        assert_eq!(found, first.result);
    }
}

/// A request that led to nothing, or that the application rejected, stays so.
pub fn key_is_recorded_without_events(store: &Arc<dyn EventStore>) {
    let refusal = KeyedSubmission::rejection(b"no funds".to_vec());
    let refused = KeyedResult::Rejected(b"no funds".to_vec());
    let submissions =
        [("nothing", KeyedSubmission::nothing(), KeyedResult::Nothing), ("no", refusal, refused)];
    for (name, submission, result) in submissions {
        let key = key(name, "alone");
        let first = store.submit_once(&key, submission.clone()).unwrap();
        assert_eq!(first, Submitted { result: result.clone(), is_retry: false });
        let again = Submitted { result: result.clone(), is_retry: true };
        assert_eq!(store.submit_once(&key, submission).unwrap(), again);
        let late = Append::new().to("late", ExpectedVersion::Any, events(1));
        assert_eq!(store.submit_once(&key, late.into()).unwrap(), again);
        assert_eq!(store.find_submitted(&key).unwrap(), Some(result));
    }
    assert_eq!(store.head().unwrap(), None, "a key alone is no event");
    let longest = KeyedSubmission::rejection(vec![7; REJECTION_LEN_MAX]);
    store.submit_once(&key("longest", ""), longest).unwrap();
    let too_long = KeyedSubmission::rejection(vec![7; REJECTION_LEN_MAX + 1]);
    let refused = store.submit_once(&key("too long", ""), too_long).unwrap_err();
    assert!(matches!(refused, Error::LimitExceeded(_)), "{refused}");
    assert_eq!(store.find_submitted(&key("too long", "")).unwrap(), None);
}

/// A key that names another request is an error, and so is looking it up.
pub fn key_of_another_request_is_refused(store: &Arc<dyn EventStore>) {
    let append = || Append::new().to("a", ExpectedVersion::Any, events(1)).into();
    store.submit_once(&key("k", "first"), append()).unwrap();
    store.submit_once(&key("alone", "first"), KeyedSubmission::nothing()).unwrap();
    let before = contents(store);
    for name in ["k", "alone"] {
        let other = key(name, "second");
        let refusals = [
            store.submit_once(&other, append()).unwrap_err(),
            store.submit_once(&other, KeyedSubmission::nothing()).unwrap_err(),
            store.find_submitted(&other).unwrap_err(),
        ];
        for refused in refusals {
            assert!(
                matches!(&refused, Error::IdempotencyKeyReused { scope, key }
                    if scope == "requests" && key == name),
                "{refused}"
            );
            assert!(refused.is_invalid());
        }
    }
    assert_eq!(contents(store), before);
    // Scopes are independent, and so are names that only look alike once joined.
    let digest = RequestDigest::of("third");
    for (scope, name) in [("other", "k"), ("requests ", "k"), ("requests", " k")] {
        let other = IdempotencyKey::new(scope, name, digest).unwrap();
        assert!(!store.submit_once(&other, append()).unwrap().is_retry, "{other}");
    }
}

/// A refused append records nothing: the request may be sent again.
pub fn refused_append_leaves_its_key_unused(store: &Arc<dyn EventStore>) {
    use ExpectedVersion::{Exact, NoStream};
    store.append("a", NoStream, events(1)).unwrap();
    let before = contents(store);
    let key = key("k", "request");
    let labelled = Append::new().to("b", NoStream, events(1)).check("a", NoStream).label("claim");
    let refusals = [
        store.submit(labelled.clone()).unwrap_err(),
        store.submit_once(&key, labelled.into()).unwrap_err(),
        store.submit_once(&key, Append::new().into()).unwrap_err(),
    ];
    assert_eq!(refusals.each_ref().map(Error::label), [Some("claim"), Some("claim"), None]);
    assert!(refusals[1].to_string().contains("(claim)"), "{}", refusals[1]);
    assert_eq!(contents(store), before);
    assert_eq!(store.find_submitted(&key).unwrap(), None);
    let append = Append::new().to("a", Exact(version(1)), [event("Happened", 2)]);
    assert!(!store.submit_once(&key, append.into()).unwrap().is_retry);
}

/// Of many callers that send the same request at the same time, one does it, and all get its
/// result.
pub fn same_key_from_many_threads_is_done_once(store: &Arc<dyn EventStore>) {
    const THREADS: usize = 8;
    const ROUNDS: usize = 20;
    let barrier = Arc::new(Barrier::new(THREADS));
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            let (store, barrier) = (store.clone(), barrier.clone());
            thread::spawn(move || {
                let send = |round: usize| {
                    let key = key(&round.to_string(), "same");
                    let stream = format!("of-{number}");
                    // While one call syncs, the others look their key up and wait.
                    let append = Append::new().to(stream, ExpectedVersion::Any, events(1));
                    let append = append.with_durability(Durability::Sync);
                    let alone = number % 4 == 3;
                    let request = if alone { KeyedSubmission::nothing() } else { append.into() };
                    barrier.wait();
                    store.submit_once(&key, request).unwrap()
                };
                (0..ROUNDS).map(send).collect::<Vec<_>>()
            })
        })
        .collect();
    let answers: Vec<Vec<Submitted>> =
        threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let mut appends = 0;
    for round in 0..ROUNDS {
        let of_round = answers.iter().map(|answers| &answers[round]);
        let first: Vec<_> = of_round.clone().filter(|answer| !answer.is_retry).collect();
        assert_eq!(first.len(), 1, "one caller did request {round}");
        appends += u64::from(first[0].result != KeyedResult::Nothing);
        for answer in of_round {
            match (&first[0].result, &answer.result) {
                (KeyedResult::Appended(first), KeyedResult::Appended(answer)) => {
                    assert!(answer.positions().eq(first.positions()));
                    assert_eq!(answer.versions(), first.versions());
                }
                (first, answer) => assert_eq!(answer, first),
            }
        }
    }
    assert_eq!(store.head().unwrap().map_or(0, u64::from), appends);
}
