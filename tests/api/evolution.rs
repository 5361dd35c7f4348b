//! Old events in their current form: every kind of step, in every way of reading, over every store.
//! Steps that do not fit together are refused before anything is read, and random steps agree with
//! a plain interpreter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use annals::prelude::*;
use annals::{
    Bincode, Codec, Decoder, EncodedEvent, Error, EventKind, OnUnreadable, TypedEvent, Undecodable,
    UpcastError, UpcastFailed, Upcasters, UpcastersBuilder, domain_events,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::support::{place, quick};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum CustomerEvent {
    MoneyDeposited {
        cents: i64,
        #[serde(default)]
        note: String,
    },
    AddressChanged {
        address: String,
    },
    PhoneChanged {
        phone: String,
    },
}
domain_events! { CustomerEvent {
    MoneyDeposited => "MoneyDeposited" version 3,
    AddressChanged => "AddressChanged",
    PhoneChanged => "PhoneChanged",
} }

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct AddressChanged {
    address: String,
}
domain_events! { AddressChanged => "AddressChanged" }

#[derive(Serialize, Deserialize)]
struct Gone {
    address: String,
    phone: String,
}

/// Every kind of step: a rename that is followed by a change, a split with parts that need no
/// further step, and bincode to JSON.
fn steps() -> UpcastersBuilder {
    Upcasters::builder()
        .reads::<CustomerEvent>()
        .json("MoneyDeposited", 1, |mut data: Value| {
            let euros = data["amount"].as_i64().ok_or("the amount is no whole number")?;
            data["cents"] = (euros * 100).into();
            Ok(data)
        })
        .unchanged("MoneyDeposited", 2)
        .renamed("Deposited", 1, ("MoneyDeposited", 1))
        .split("CustomerMoved", 1, [("AddressChanged", 1), ("PhoneChanged", 1)], |moved| {
            let gone: Gone = moved.bincode()?;
            Ok(vec![
                EncodedEvent::new_json("AddressChanged", 1, &json!({ "address": gone.address }))?,
                EncodedEvent::new_json("PhoneChanged", 1, &json!({ "phone": gone.phone }))?,
            ])
        })
        .dropped("Ping", 1)
}

fn old_events() -> Vec<NewEvent> {
    let moved = Gone { address: "Elm".into(), phone: "5".into() };
    let moved = NewEvent::bytes("CustomerMoved", Bincode::encode(&moved).unwrap()).unwrap();
    let json = |event_type: &str, payload: Value| NewEvent::json(event_type, &payload).unwrap();
    vec![
        json("Deposited", json!({ "amount": 1 })),
        json("Ping", json!(null)),
        json("MoneyDeposited", json!({ "amount": 2 })),
        moved.with_content_type(annals::ContentType::BINCODE),
        json("MoneyDeposited", json!({ "cents": 300 })).with_schema_version(2),
        CustomerEvent::MoneyDeposited { cents: 400, note: "now".into() }.encode().unwrap(),
    ]
}

fn stores() -> (tempfile::TempDir, [Arc<dyn EventStore>; 2]) {
    let (directory, path) = place();
    (directory, [Arc::new(MemoryStore::new()), Arc::new(quick().open(path).unwrap())])
}

fn values<E>(events: impl Iterator<Item = annals::Result<TypedEvent<E>>>) -> Vec<(u64, E)> {
    events.map(|event| event.map(|event| (event.position().get(), event.event)).unwrap()).collect()
}

#[test]
fn upcasters_apply_to_every_read_and_store_nothing() {
    let (_directory, stores) = stores();
    let decoder = Decoder::<CustomerEvent>::with(steps().build().unwrap());
    let deposited = |cents, note: &str| CustomerEvent::MoneyDeposited { cents, note: note.into() };
    let expected = [
        (1, deposited(100, "")),
        (3, deposited(200, "")),
        (4, CustomerEvent::AddressChanged { address: "Elm".into() }),
        (4, CustomerEvent::PhoneChanged { phone: "5".into() }),
        (5, deposited(300, "")),
        (6, deposited(400, "now")),
    ];
    for store in stores {
        let written = old_events();
        store.append("customer-1", ExpectedVersion::NoStream, written.clone()).unwrap();

        assert_eq!(values(decoder.iter(store.read_stream("customer-1"))), expected);
        assert_eq!(values(decoder.iter(store.read_log())), expected);
        let known = store.read_log().types(decoder.stored_types()).into_iter();
        assert_eq!(values(decoder.iter(known)), expected);
        let following = store.subscribe().types(decoder.stored_types()).start().unwrap();
        assert_eq!(values(decoder.iter(following).take(expected.len())), expected);
        let mut visited = Vec::new();
        let visit = |event: EventRef<'_>| {
            decoder.each(event, |value| visited.push(value)).unwrap();
            std::ops::ControlFlow::Continue(())
        };
        store.read_log().for_each(visit).unwrap();
        assert_eq!(visited, expected.clone().map(|(_, value)| value));
        let mut backward = expected.clone();
        backward.reverse();
        // Newest first, but the parts of one event stay in order.
        backward.swap(2, 3);
        assert_eq!(values(decoder.iter(store.read_log().backward())), backward);

        let stored: Vec<_> = store.read_log().into_iter().map(Result::unwrap).collect();
        for (stored, written) in stored.iter().zip(&written) {
            assert_eq!(stored.payload(), written.payload());
            assert_eq!((stored.id(), stored.event_type()), (written.id(), written.event_type()));
            assert_eq!(stored.schema_version(), written.schema_version());
        }
    }
}

#[test]
fn event_set_gets_only_its_part_of_a_split_event() {
    let store = MemoryStore::new();
    store.append("customer-1", ExpectedVersion::NoStream, old_events()).unwrap();
    let decoder = Decoder::<AddressChanged>::with(steps().build().unwrap());
    assert_eq!(decoder.stored_types(), ["AddressChanged", "CustomerMoved"]);
    let known = store.read_log().types(decoder.stored_types()).into_iter();
    assert_eq!(values(decoder.iter(known)), [(4, AddressChanged { address: "Elm".into() })]);

    // In a read without a filter, events of other sets are still errors, upcast or not.
    let errors: Vec<_> = store
        .read_log()
        .into_iter()
        .filter_map(|event| decoder.decode(event.unwrap()).err())
        .map(|error| error.to_string())
        .collect();
    assert_eq!(errors.len(), 4, "{errors:?}");
    assert!(
        errors[0].contains(
            "Deposited in schema version 1: upcast to MoneyDeposited in schema version 3"
        )
    );
    assert!(errors.iter().all(|error| error.contains("the code knows no event of this type")));

    // An unknown event is not left out either, even if an older version of it has a step.
    let later = NewEvent::json("CustomerMoved", &json!({})).unwrap().with_schema_version(2);
    store.append("customer-2", ExpectedVersion::NoStream, [later]).unwrap();
    let error = decoder.iter(store.read_stream("customer-2")).next().unwrap().unwrap_err();
    assert!(error.to_string().contains("the code knows no event of this type"), "{error}");

    // Without the step, nothing connects the old event with this set.
    let plain = Decoder::<AddressChanged>::new();
    assert_eq!(plain.stored_types(), ["AddressChanged"]);
}

#[test]
fn upcaster_failure_names_the_event() {
    let yields = |event_type: &'static str, schema_version| {
        steps().split("Odd", 1, [("AddressChanged", 1)], move |odd| {
            Ok(vec![EncodedEvent { event_type: event_type.into(), schema_version, ..odd }])
        })
    };
    let failing = || steps().json("Odd", 1, |_: Value| Err::<Value, _>("no idea".into()));
    let cases = [
        (failing().unchanged("Odd", 2), "of Odd in schema version 1 failed: no idea"),
        (yields("AddressChanged", 2), "yielded AddressChanged in schema version 2, which is not"),
        (yields("PhoneChanged", 1), "yielded PhoneChanged in schema version 1, which is not"),
        (yields("AddressChanged", 1), "upcast to AddressChanged in schema version 1: its payload"),
    ];
    let store = MemoryStore::new();
    let odd = NewEvent::json("Odd", &json!({})).unwrap();
    store.append("customer-1", ExpectedVersion::NoStream, [odd]).unwrap();
    for (at, (steps, why)) in cases.into_iter().enumerate() {
        // A step that leads to an unread version cannot be built, so the failing step gets a
        // target.
        let steps = if at == 0 { steps.dropped("Odd", 3) } else { steps };
        let decoder = Decoder::<CustomerEvent>::with(steps.build().unwrap());
        let error = decoder.iter(store.read_log()).next().unwrap().unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert!(
            error.to_string().contains("at position 1 of stream customer-1, Odd in"),
            "{error}"
        );
        let Error::Unreadable { cause, .. } = error else { panic!("{error:?}") };
        assert!(cause.downcast_ref::<UpcastFailed>().is_some());
    }

    let bytes = NewEvent::bytes("Deposited", "{}").unwrap();
    store.append("customer-2", ExpectedVersion::NoStream, [bytes]).unwrap();
    let decoder = Decoder::<CustomerEvent>::with(steps().build().unwrap());
    let mut events = decoder.iter(store.read_stream("customer-2"));
    let error = events.next().unwrap().unwrap_err().to_string();
    assert!(
        error.contains(
            "content type is application/octet-stream, but it is read as application/json"
        )
    );
    assert!(events.next().is_none(), "the iterator ends after the first error");
}

#[test]
fn skipped_events_are_counted_and_the_first_is_kept() {
    let store = MemoryStore::new();
    let unknown = (0..150).map(|number| NewEvent::json("Unheard", &number).unwrap());
    let known = AddressChanged { address: "Elm".into() }.encode().unwrap();
    store.append("a", ExpectedVersion::Any, unknown.chain([known])).unwrap();
    let decoder = Decoder::<AddressChanged>::new();
    let mut events = decoder.iter(store.read_log()).on_unreadable(OnUnreadable::Skip);
    assert_eq!(values(events.by_ref()).len(), 1);
    assert_eq!((events.skipped_count(), events.skipped().len()), (150, 100));
    let positions = events.skipped().iter().map(|error| match error {
        Error::Unreadable { position, .. } => position.get(),
        error => panic!("{error:?}"),
    });
    assert!(positions.eq(1..=100));

    // Errors of the store are never skipped.
    let closed = store.read_log().into_iter();
    store.close();
    let mut events = decoder.iter(closed).on_unreadable(OnUnreadable::Skip);
    assert!(events.by_ref().take(2).any(|event| event.is_err()));
    assert_eq!(events.skipped_count(), 0);
}

fn assert_refused(steps: UpcastersBuilder, text: &str) {
    let error = steps.build().unwrap_err();
    assert!(error.to_string().contains(text), "{error}\n{text}");
    let error = Error::from(error);
    assert!(error.to_string().starts_with("the upcasters do not fit together: "));
    let Error::Upcasters { cause } = error else { panic!("{error:?}") };
    assert!(cause.downcast_ref::<UpcastError>().is_some());
}

fn reading_addresses() -> UpcastersBuilder {
    Upcasters::builder().reads::<AddressChanged>()
}

fn splitting(steps: UpcastersBuilder, from: &str, to: &[(&str, u32)]) -> UpcastersBuilder {
    steps.split(from, 1, to.iter().copied(), |event| Ok(vec![event]))
}

#[test]
fn upcasters_with_dead_ends_or_cycles_are_refused() {
    let base = reading_addresses;
    let split = splitting;
    let ok = |data: Value| Ok(data);
    let to_address = ("AddressChanged", 1);
    let cases = [
        (
            base().renamed("Moved", 1, to_address).dropped("Moved", 1),
            "there are two steps for Moved in schema version 1: remove one of them",
        ),
        (
            base().renamed("A", 1, ("B", 1)).renamed("B", 1, ("A", 1)),
            "the steps form a cycle: A 1 → B 1 → A 1; remove one",
        ),
        (
            split(split(base(), "A", &[to_address, ("B", 1)]), "B", &[to_address, ("C", 1)])
                .json("C", 1, ok)
                .renamed("C", 2, ("B", 1)),
            "the steps form a cycle: B 1 → C 1 → C 2 → B 1; remove one",
        ),
        (base().renamed("A", 1, ("A", 1)), "the steps form a cycle: A 1 → A 1; remove one"),
        (
            base().json("Moved", 1, ok),
            "the step for Moved in schema version 1 leads to Moved in schema version 2, which is neither",
        ),
        (
            base().renamed("Moved", 1, ("AddressChanged", 2)),
            "leads to AddressChanged in schema version 2, which is neither read nor upcast further",
        ),
        (
            Upcasters::builder().renamed("Moved", 1, to_address),
            "leads to AddressChanged in schema version 1, which is neither read",
        ),
        (
            Upcasters::builder().reads::<CustomerEvent>().unchanged("MoneyDeposited", 2),
            "there is no step for MoneyDeposited in schema version 1, though later versions",
        ),
        (
            base().renamed("Moved", 3, to_address).unchanged("Moved", 2),
            "there is no step for Moved in schema version 1, though later versions",
        ),
    ];
    for (steps, text) in cases {
        assert_refused(steps, text);
    }
}

#[test]
fn upcasters_of_current_or_impossible_versions_are_refused() {
    let base = reading_addresses;
    let to_address = ("AddressChanged", 1);
    let cases = [
        (
            base().dropped("AddressChanged", 1),
            "there is a step for AddressChanged in schema version 1, but schema version 1 of it is the one",
        ),
        (
            base().renamed("AddressChanged", 2, to_address),
            "there is a step for AddressChanged in schema version 2, but schema version 1 of it is the one",
        ),
        (
            base().dropped("Ping", 0),
            "Ping is named in schema version 0: schema versions count from 1",
        ),
        (base().renamed("A", 1, ("B", 0)), "B is named in schema version 0"),
        (
            base().dropped("", 1),
            "a step names the type \"\", which is not a valid event type: event type is empty",
        ),
        (splitting(base(), "Moved", &[]), "the step for Moved in schema version 1 names no target"),
        (
            base().reads::<AddressLater>(),
            "AddressChanged is read in schema version 1 by one set of events and 2",
        ),
    ];
    for (steps, text) in cases {
        assert_refused(steps, text);
    }

    // The corrected steps are accepted.
    base().renamed("Moved", 3, to_address).first_version("Moved", 3).build().unwrap();
    base().reads::<AddressChanged>().build().unwrap();
    Upcasters::builder().build().unwrap();
}

struct AddressLater;

impl DomainEvent for AddressLater {
    const KINDS: &'static [EventKind] =
        &[EventKind { event_type: "AddressChanged", schema_version: 2 }];

    fn encode(&self) -> annals::Result<NewEvent> {
        NewEvent::bytes("AddressChanged", [])
    }
    fn decode(_: &EncodedEvent<'_>) -> Result<Self, Undecodable> {
        Ok(Self)
    }
}

#[test]
fn upcaster_chain_of_any_length_is_followed() {
    let versions = 20_000;
    let mut steps = Upcasters::builder().reads::<AddressChanged>();
    for version in 1..versions {
        steps = steps.unchanged("Moved", version);
    }
    let upcasters = steps.renamed("Moved", versions, ("AddressChanged", 1)).build();
    let decoder = Decoder::<AddressChanged>::with(upcasters.unwrap());
    let store = MemoryStore::new();
    let moved = NewEvent::json("Moved", &json!({ "address": "Elm" })).unwrap();
    store.append("a", ExpectedVersion::Any, [moved]).unwrap();
    let events = decoder.iter(store.read_log().types(decoder.stored_types()));
    assert_eq!(values(events), [(1, AddressChanged { address: "Elm".into() })]);
}

/// The stored names, each with its last version: all versions below it are old, and so is the last
/// version of B, which nothing reads.
const NAMES: [(&str, u32); 5] = [("A", 3), ("B", 3), ("C", 2), ("D", 4), ("E", 1)];

/// Defines a set of events: `Traced` has all current kinds of the model, `OnlyD` has only D.
macro_rules! traced {
    ($name:ident, $($event_type:literal $schema_version:literal),+) => {
        #[derive(Debug, Clone, PartialEq)]
        struct $name(String, Vec<u32>);

        impl DomainEvent for $name {
            const KINDS: &'static [EventKind] = &[$(EventKind {
                event_type: $event_type,
                schema_version: $schema_version,
            }),+];

            fn encode(&self) -> annals::Result<NewEvent> {
                NewEvent::json(self.0.as_str(), &self.1)
            }
            fn decode(stored: &EncodedEvent<'_>) -> Result<Self, Undecodable> {
                Ok(Self(stored.event_type.to_string(), stored.json()?))
            }
        }
    };
}
traced!(Traced, "A" 3, "C" 2, "D" 4, "E" 1);
traced!(OnlyD, "D" 4);

/// A type, by its index in [`NAMES`], and a schema version.
type Kind = (usize, u32);

/// The action for each old kind. A payload is the list of the marks that steps left on it.
type Plan = BTreeMap<Kind, Act>;

#[derive(Debug, Clone)]
enum Act {
    Change {
        mark: u32,
    },
    Keep,
    Rename(Kind),
    /// Yields the parts, except those whose mark the payload already holds.
    Split(Vec<(Kind, u32)>),
    Drop,
}

fn current(kind: Kind) -> bool {
    NAMES[kind.0].1 == kind.1 && NAMES[kind.0].0 != "B"
}

fn all_kinds() -> Vec<Kind> {
    let versions = |(at, (_, newest)): (usize, &(&str, u32))| (1..=*newest).map(move |v| (at, v));
    NAMES.iter().enumerate().flat_map(versions).collect()
}

/// Steps lead to a later version or a later name, so there are no cycles.
fn plan() -> impl Strategy<Value = Plan> {
    let kinds = all_kinds();
    let old: Vec<_> = kinds.iter().copied().filter(|kind| !current(*kind)).collect();
    let acts: Vec<_> = old
        .iter()
        .map(|&kind| {
            let later: Vec<_> = kinds.iter().copied().filter(|later| *later > kind).collect();
            let later = prop::sample::select(later);
            let parts = prop::collection::vec((later.clone(), 1..4_u32), 1..4);
            let elsewhere = prop_oneof![
                4 => later.prop_map(Act::Rename),
                4 => parts.prop_map(Act::Split),
                1 => Just(Act::Drop),
            ];
            // The last version of B has no next one.
            if kind == (1, 3) {
                return elsewhere.boxed();
            }
            let next =
                prop_oneof![(1..4_u32).prop_map(|mark| Act::Change { mark }), Just(Act::Keep)];
            prop_oneof![next, elsewhere].boxed()
        })
        .collect();
    acts.prop_map(move |acts| old.iter().copied().zip(acts).collect())
}

fn interpret(plan: &Plan, kind: Kind, mut trail: Vec<u32>, out: &mut Vec<(Kind, Vec<u32>)>) {
    let next = (kind.0, kind.1 + 1);
    match plan.get(&kind) {
        None => out.push((kind, trail)),
        Some(Act::Change { mark }) => {
            trail.push(*mark);
            interpret(plan, next, trail, out);
        }
        Some(Act::Keep) => interpret(plan, next, trail, out),
        Some(Act::Rename(to)) => interpret(plan, *to, trail, out),
        Some(Act::Split(parts)) => {
            for (to, mark) in parts.iter().filter(|(_, mark)| !trail.contains(mark)) {
                let mut trail = trail.clone();
                trail.push(*mark);
                interpret(plan, *to, trail, out);
            }
        }
        Some(Act::Drop) => {}
    }
}

/// Returns whether an event of this kind may become one of type D, according to its steps.
fn may_become_d(plan: &Plan, kind: Kind) -> bool {
    let next = (kind.0, kind.1 + 1);
    match plan.get(&kind) {
        _ if NAMES[kind.0].0 == "D" => true,
        None | Some(Act::Drop) => false,
        Some(Act::Change { .. } | Act::Keep) => may_become_d(plan, next),
        Some(Act::Rename(to)) => may_become_d(plan, *to),
        Some(Act::Split(parts)) => parts.iter().any(|(to, _)| may_become_d(plan, *to)),
    }
}

fn upcasters(plan: &Plan) -> Upcasters {
    let name = |kind: Kind| (NAMES[kind.0].0, kind.1);
    let mut steps = Upcasters::builder().reads::<OnlyD>().reads::<Traced>();
    for (&kind, act) in plan {
        let (event_type, version) = name(kind);
        steps = match act.clone() {
            Act::Change { mark } => steps.json(event_type, version, move |mut trail: Vec<u32>| {
                trail.push(mark);
                Ok(trail)
            }),
            Act::Keep => steps.unchanged(event_type, version),
            Act::Rename(to) => steps.renamed(event_type, version, name(to)),
            Act::Drop => steps.dropped(event_type, version),
            Act::Split(parts) => {
                let targets = parts.clone().into_iter().map(|(to, _)| name(to));
                steps.split(event_type, version, targets, move |event| {
                    let trail: Vec<u32> = event.json()?;
                    let parts = parts.iter().filter(|(_, mark)| !trail.contains(mark));
                    let parts = parts.map(|(to, mark)| {
                        let trail: Vec<_> = trail.iter().chain([mark]).collect();
                        let (event_type, version) = name(*to);
                        Ok(EncodedEvent::new_json(event_type, version, &trail)?)
                    });
                    parts.collect()
                })
            }
        };
    }
    steps.build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn random_upcasters_agree_with_a_plain_interpreter(
        plan in plan(),
        events in prop::collection::vec(
            (prop::sample::select(all_kinds()), prop::collection::vec(1..4_u32, 0..2)),
            1..12,
        ),
    ) {
        let store = MemoryStore::new();
        let written = events.iter().map(|((at, version), trail)| {
            NewEvent::json(NAMES[*at].0, trail).unwrap().with_schema_version(*version)
        });
        store.append("s", ExpectedVersion::Any, written).unwrap();
        let mut expected = Vec::new();
        for (position, (kind, trail)) in (1..).zip(&events) {
            let mut out = Vec::new();
            interpret(&plan, *kind, trail.clone(), &mut out);
            let parts = out.into_iter().map(|(kind, trail)| (position, NAMES[kind.0].0.to_owned(), trail));
            expected.extend(parts);
        }

        let decoder = Decoder::<Traced>::with(upcasters(&plan));
        let all = values(decoder.iter(store.read_log()));
        let all: Vec<_> = all.into_iter().map(|(position, Traced(name, trail))| (position, name, trail)).collect();
        prop_assert_eq!(&all, &expected);

        // A decoder of D alone, over the types that may become D, yields the same events of D.
        let decoder = Decoder::<OnlyD>::with(upcasters(&plan));
        let leading = all_kinds().into_iter().filter(|kind| may_become_d(&plan, *kind));
        let leading: BTreeSet<_> = leading.map(|kind| NAMES[kind.0].0).collect();
        let stored_types: Vec<_> = decoder.stored_types();
        prop_assert_eq!(stored_types.len(), leading.len());
        prop_assert_eq!(stored_types.iter().copied().collect::<BTreeSet<_>>(), leading);
        let only = values(decoder.iter(store.read_log().types(decoder.stored_types())));
        let only: Vec<_> = only.into_iter().map(|(position, OnlyD(name, trail))| (position, name, trail)).collect();
        expected.retain(|(_, name, _)| name == "D");
        prop_assert_eq!(only, expected);
    }
}
