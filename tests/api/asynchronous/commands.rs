use annals::prelude::*;
use annals::testing::{Decorated, Decorator};
use annals::{AsyncRepository, AsyncStore, Error, IdempotencyKey, RequestDigest, UniqueValues};

use super::on_each_runtime;
use crate::support::bank::*;

fn key(request: &str) -> IdempotencyKey {
    IdempotencyKey::new("deposits", request, RequestDigest::of(request)).unwrap()
}

/// Each request is sent twice at once, in any order, to few aggregates: no update is lost, and none
/// is done twice.
#[test]
fn commands_of_many_tasks_lose_and_double_nothing() {
    on_each_runtime(|runtime, store, _| async move {
        let repository = Repository::<Account>::new(store.blocking()).cache(10);
        let accounts = AsyncRepository::new(repository);
        for id in 0..4 {
            accounts.execute(id, create()).await.unwrap();
        }
        let tasks: Vec<_> = (0..400_u32)
            .map(|task| {
                let accounts = accounts.clone();
                runtime.spawn(async move {
                    let request = task % 200;
                    let deposit = accounts
                        .command(request % 4)
                        .idempotency_key(key(&request.to_string()))
                        .with_metadata("user", "ada")
                        .run(deposit(10));
                    let done = deposit.await.unwrap();
                    usize::from(done.is_retry())
                })
            })
            .collect();
        let mut retries = 0;
        for task in tasks {
            retries += task.await;
        }
        assert_eq!(retries, 200);
        for id in 0..4 {
            assert_eq!(accounts.load(id).await.unwrap().state().balance, 500);
        }
        assert_eq!(store.head().unwrap().unwrap().get(), 4 + 200);
    });
}

/// `also` may read: it runs where it may block.
#[test]
fn also_reads_and_adds_in_the_same_append() {
    on_each_runtime(|runtime, store, _| async move {
        let claims = UniqueValues::new(store.blocking(), "email", "secret").unwrap();
        let accounts = AsyncRepository::new(Repository::<Account>::new(store.blocking()));
        let tasks: Vec<_> = (0..40_u32)
            .map(|task| {
                let (accounts, claims) = (accounts.clone(), claims.clone());
                runtime.spawn(async move {
                    let email = format!("{}@example.com", task % 10);
                    let command = accounts.command(task).also(move |decision| {
                        claims.change(decision, [], [email.as_str()])?;
                        Ok(())
                    });
                    command.run(create()).await.is_ok()
                })
            })
            .collect();
        let mut created = 0;
        for task in tasks {
            created += u32::from(task.await);
        }
        assert_eq!(created, 10, "one account for each address");
    });
}

/// A reactor passes on the event that it handles.
#[test]
fn command_follows_an_event() {
    on_each_runtime(|_, store, _| async move {
        let accounts = AsyncRepository::new(Repository::<Account>::new(store.blocking()));
        accounts.execute("1", create()).await.unwrap();
        let cause = store.read_log().first().await.unwrap().unwrap();
        accounts.command("1").following(&cause).run(deposit(1)).await.unwrap();
        let effect = store.read_log().last().await.unwrap().unwrap();
        assert_eq!(effect.causation_id(), Some(&*cause.id().to_string()));
        assert_eq!(effect.correlation_id(), effect.causation_id());
    });
}

#[test]
fn refusals_are_those_of_the_blocking_door() {
    on_each_runtime(|_, store, _| async move {
        let accounts = AsyncRepository::new(Repository::<Account>::new(store.blocking()));
        assert!(matches!(accounts.load("1").await, Err(Error::AggregateNotFound { .. })));
        assert!(accounts.find("1").await.unwrap().is_none());
        let seen = accounts.command("1").expecting(ExpectedVersion::StreamExists);
        assert!(seen.run(create()).await.unwrap_err().is_version_mismatch());
        let created = accounts.execute("1", create()).await.unwrap();
        let rejected = accounts.execute("1", withdraw(10)).await.unwrap_err();
        assert!(matches!(rejected, ExecuteError::Rejected(_)), "{rejected}");
        let invalid = accounts.execute("", create()).await.unwrap_err();
        assert!(matches!(invalid, ExecuteError::Store(Error::InvalidArgument(_))));
        let version = created.version().unwrap();
        assert_eq!(accounts.load_as_of_version("1", version).await.unwrap().state().balance, 0);
        let saved = accounts.spawn_blocking(|accounts| {
            let mut root = accounts.load("1")?;
            root.decide(&deposit(5)).unwrap();
            accounts.save(&mut root)
        });
        assert!(saved.await.unwrap().is_some());
        store.close().await.unwrap();
        let closed = accounts.execute("1", deposit(1)).await.unwrap_err();
        assert!(matches!(closed, ExecuteError::Store(Error::Closed)));
    });
}

/// Counts nothing and forwards everything: a store without an async API of its own.
struct Plain;

impl Decorator for Plain {}

#[test]
fn every_store_has_an_async_door() {
    let store = AsyncStore::new(Decorated::new(&MemoryStore::new(), Plain));
    smol::block_on(async {
        let accounts = AsyncRepository::new(Repository::<Account>::new(store.blocking()));
        accounts.execute("1", create()).await.unwrap();
        accounts.command("1").idempotency_key(key("1")).run(deposit(7)).await.unwrap();
        let again = accounts.command("1").idempotency_key(key("1")).run(deposit(7)).await.unwrap();
        assert!(again.is_retry());
        let mut feed = store.subscribe().start().await.unwrap();
        let mut events = 0;
        while !matches!(feed.next().await.unwrap().unwrap(), Delivery::CaughtUp(_)) {
            events += 1;
        }
        assert_eq!(events, 2);
    });
}
