//! A projection whose events or filter change without a new version is refused.

use std::marker::PhantomData;

use annals::prelude::*;
use annals::{
    Checkpoint, OnUnreadable, ProjectionError, Query, Target, UpcastError, ViewCommit, ViewStore,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{AnyStore, SOON, all_views, stores};

#[derive(Serialize, Deserialize)]
enum Both {
    Deposited(i64),
    Withdrawn(i64),
}
annals::domain_events! { Both { Deposited => "Deposited", Withdrawn => "Withdrawn" } }

#[derive(Serialize, Deserialize)]
enum One {
    Deposited(i64),
}
annals::domain_events! { One { Deposited => "Deposited" } }

#[derive(Serialize, Deserialize)]
enum Second {
    Deposited(i64),
}
annals::domain_events! { Second { Deposited => "Deposited" version 2 } }

/// Counts its events.
struct Count<E> {
    version: u32,
    target: Target,
    query: Query,
    events: PhantomData<fn() -> E>,
}

fn count<E>(version: u32) -> Count<E> {
    Count { version, target: Target::View, query: Query::Everything, events: PhantomData }
}

impl<E: DomainEvent + 'static> Projection for Count<E> {
    type Event = E;

    fn name(&self) -> &'static str {
        "count"
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn target(&self) -> Target {
        self.target
    }

    fn query(&self) -> Query {
        self.query.clone()
    }

    fn handle(&self, _: &TypedEvent<E>, view: &mut ViewWriter) -> Result<(), HandlerError> {
        Ok(view.update("events", |events: &mut u64| *events += 1)?)
    }
}

type Start = Box<dyn Fn(&dyn AnyStore, u32) -> Result<(), ProjectionError>>;

fn run(
    store: &dyn AnyStore,
    projection: impl Projection,
    upcasters: Upcasters,
) -> Result<(), ProjectionError> {
    let skipping = ProjectionOptions::new().on_unreadable(OnUnreadable::Skip);
    let manager = ProjectionManager::new(store).upcasters(upcasters);
    let manager = manager.register_with(projection, skipping)?;
    manager.start()?;
    manager.projection("count")?.wait_for_rebuild(SOON, |_| {})?;
    manager.wait_for_head(SOON).map(drop)
}

fn filtered(query: Query) -> Start {
    Box::new(move |store, version| {
        run(store, Count { query: query.clone(), ..count::<Both>(version) }, Upcasters::none())
    })
}

fn plain<E: DomainEvent + 'static>(upcasters: Upcasters) -> Start {
    Box::new(move |store, version| run(store, count::<E>(version), upcasters.clone()))
}

fn renamed() -> Upcasters {
    Upcasters::builder().reads::<One>().renamed("Paid", 1, ("Deposited", 1)).build().unwrap()
}

fn raised() -> Upcasters {
    Upcasters::builder().reads::<Second>().unchanged("Deposited", 1).build().unwrap()
}

fn append_some(store: &(impl EventStore + ?Sized)) {
    let events = ["Deposited", "Withdrawn", "Paid"].map(|it| NewEvent::json(it, &7).unwrap());
    store.append("account-1", ExpectedVersion::Any, events).unwrap();
}

fn counted(store: &dyn AnyStore) -> u64 {
    store.view("count").get("events").unwrap().unwrap_or_default()
}

#[test]
fn changed_definition_is_refused_until_the_version_is_raised() {
    let none = Upcasters::none;
    let cases: [(Start, Start, &str, u64); 8] = [
        (plain::<One>(none()), plain::<Both>(none()), "event type Withdrawn was added", 2),
        (plain::<Both>(none()), plain::<One>(none()), "event type Withdrawn was removed", 1),
        (
            plain::<One>(none()),
            plain::<Second>(raised()),
            "event type Deposited changed from schema version 1 to 2",
            1,
        ),
        (plain::<Second>(raised()), plain::<One>(none()), "schema version 2 to 1", 1),
        (plain::<One>(none()), plain::<One>(renamed()), "stored event type Paid was added", 2),
        (plain::<One>(renamed()), plain::<One>(none()), "stored event type Paid was removed", 1),
        (
            filtered(Query::category("loan")),
            filtered(Query::category("account")),
            "the query in category \"loan\" was removed, the query in category \"account\" was added",
            2,
        ),
        (
            filtered(Query::stream_prefix("loan")),
            filtered(Query::Everything),
            "the query in streams with prefix \"loan\" was removed",
            2,
        ),
    ];
    for (before, after, change, events) in cases {
        for (store, _kept) in stores() {
            append_some(&*store);
            before(&*store, 1).unwrap();
            let views = all_views(&*store);
            let refused = after(&*store, 1).unwrap_err();
            assert!(matches!(refused, ProjectionError::DefinitionChanged { .. }), "{refused}");
            let said = refused.to_string();
            assert!(said.contains(change) && said.ends_with("; raise version()"), "{said}");
            assert_eq!(all_views(&*store), views, "nothing is changed");
            before(&*store, 1).unwrap();
            after(&*store, 2).unwrap();
            assert_eq!(counted(&*store), events, "{change}");
            after(&*store, 2).unwrap();
        }
    }
}

#[test]
fn rebuild_with_a_changed_definition_is_refused_too() {
    for (store, _kept) in stores() {
        append_some(&*store);
        run(&*store, count::<One>(1), Upcasters::none()).unwrap();
        let manager = ProjectionManager::new(&*store).register(count::<Both>(1)).unwrap();
        let refused = manager.projection("count").unwrap().rebuild().unwrap_err();
        assert!(matches!(refused, ProjectionError::DefinitionChanged { .. }), "{refused}");
    }
}

/// The projection has handled none of these events, so the upcaster changes nothing it has stored.
#[test]
fn missing_upcaster_may_be_added_later() {
    for (store, _kept) in stores() {
        append_some(&*store);
        run(&*store, count::<Second>(1), Upcasters::none()).unwrap();
        assert_eq!(store.view("count").skipped(9).unwrap().len(), 1);
        run(&*store, count::<Second>(1), raised()).unwrap();
        append_some(&*store);
        run(&*store, count::<Second>(1), raised()).unwrap();
        assert_eq!(counted(&*store), 1);
        let refused = run(&*store, count::<Second>(1), Upcasters::none()).unwrap_err();
        let change = "the upcaster of Deposited in schema version 1 changed";
        assert!(refused.to_string().contains(change), "{refused}");
    }
}

#[test]
fn raised_version_of_a_reactor_accepts_a_changed_definition() {
    for (store, _kept) in stores() {
        append_some(&*store);
        let effects = |version| Count { target: Target::Reactor, ..count::<One>(version) };
        run(&*store, effects(1), Upcasters::none()).unwrap();
        let both = |version| Count { target: Target::Reactor, ..count::<Both>(version) };
        run(&*store, both(1), Upcasters::none()).unwrap_err();
        append_some(&*store);
        run(&*store, both(2), Upcasters::none()).unwrap();
        assert_eq!(counted(&*store), 3, "1 event before the new version, and 2 after it");
        run(&*store, effects(2), Upcasters::none()).unwrap_err();
    }
}

#[test]
fn directory_without_a_definition_is_accepted_and_gets_one() {
    for (store, _kept) in stores() {
        let state = br#"{"serving":{"generation":1,"version":1},"building":null,"newest":1}"#;
        let directory = ViewCommit {
            view: "count".into(),
            expected: None,
            changes: Vec::new(),
            checkpoint: Some(Checkpoint { position: None, state: state.to_vec() }),
            follows_other_log: true,
        };
        store.commit_view(&directory).unwrap();
        append_some(&*store);
        run(&*store, count::<One>(1), Upcasters::none()).unwrap();
        assert_eq!(counted(&*store), 1);
        run(&*store, count::<Both>(1), Upcasters::none()).unwrap_err();
    }
}

#[test]
fn shadow_build_keeps_its_own_definition() {
    for (store, _kept) in stores() {
        append_some(&*store);
        run(&*store, count::<One>(1), Upcasters::none()).unwrap();
        // The manager is dropped before it starts, so the shadow build is only planned.
        let manager = ProjectionManager::new(&*store).register(count::<One>(1)).unwrap();
        manager.projection("count").unwrap().rebuild().unwrap();
        drop(manager);
        run(&*store, count::<Both>(1), Upcasters::none()).unwrap_err();
        run(&*store, count::<Both>(2), Upcasters::none()).unwrap();
        assert_eq!(counted(&*store), 2);
        let directory = store.checkpoint("count").unwrap().unwrap().state;
        let directory: Value = serde_json::from_slice(&directory).unwrap();
        let definitions = directory["definitions"].as_object().unwrap();
        assert_eq!(definitions.len(), 1, "{directory}: only that of the serving build");
    }
}

#[test]
fn projection_is_refused_if_upcasters_miss_its_events() {
    let dropped = || Upcasters::builder().reads::<Second>().dropped("Deposited", 1).build();
    let moved = || {
        let paid = Upcasters::builder().reads::<Paid>();
        paid.renamed("Deposited", 1, ("Paid", 1)).build()
    };
    let three = || Upcasters::builder().reads::<Second>().unchanged("Deposited", 1).build();
    let check = |upcasters: Upcasters, advice: &str, is_first: bool| {
        let store = MemoryStore::new();
        let refused = if is_first {
            run(&store, count::<One>(1), upcasters)
        } else {
            run(&store, count::<Third>(1), upcasters)
        };
        let refused = refused.unwrap_err();
        let ProjectionError::Upcasters { cause, .. } = &refused else { panic!("{refused}") };
        assert!(
            matches!(cause, UpcastError::ReadsOld { .. } | UpcastError::ReadsOther { .. }),
            "{cause:?}"
        );
        assert!(refused.to_string().contains(advice), "{refused}");
        assert!(all_views(&store).is_empty());
    };
    let name_it = "turn it into Deposited in schema version 2: name that in domain_events!";
    check(raised(), name_it, true);
    check(dropped().unwrap(), "drop it: remove it from domain_events!", true);
    check(moved().unwrap(), "turn it into Paid in schema version 1: name that", true);
    check(three().unwrap(), "lead to schema version 2: add a step for schema version 2", false);
    let first = Upcasters::builder().reads::<Second>().first_version("Deposited", 2);
    let first = first.renamed("Paid", 1, ("Deposited", 2)).build().unwrap();
    check(first, "lead to schema version 2: name version 2 in domain_events!", true);

    // Upcasters that are given after the projection are checked at the start.
    let store = MemoryStore::new();
    let manager = ProjectionManager::new(&store).register(count::<One>(1)).unwrap();
    let refused = manager.upcasters(raised()).start().unwrap_err();
    assert!(matches!(refused, ProjectionError::Upcasters { .. }), "{refused}");
    assert!(all_views(&store).is_empty());
}

#[derive(Serialize, Deserialize)]
struct Paid(i64);
annals::domain_events! { Paid => "Paid" }

#[derive(Serialize, Deserialize)]
struct Third(i64);
annals::domain_events! { Third => "Deposited" version 3 }
