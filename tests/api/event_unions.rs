//! Events of several enums, combined by `domain_event_union!`: each event is encoded and decoded by
//! the member that has its type, wherever typed events are read.

use std::sync::{Arc, Mutex};

use annals::prelude::*;
use annals::testing::{ProjectionScenario, Scenario};
use annals::{
    ContentType, Decoder, EncodedEvent, Error, EventKind, Target, Undecodable, Upcasters,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::support::SOON;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum OrderEvent {
    Placed { product: String, count: u32 },
    Cancelled,
}
annals::domain_events! { OrderEvent {
    Placed => "OrderPlaced" version 2,
    Cancelled => "OrderCancelled",
} }

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum ProductEvent {
    Added { name: String },
    Renamed { name: String },
}
annals::domain_events! { codec annals::Bincode; ProductEvent {
    Added => "ProductAdded",
    Renamed => "ProductRenamed",
} }

/// An event of raw bytes, implemented by hand. Its events may have any schema version.
#[derive(Debug, Clone, PartialEq)]
struct LabelPrinted(Vec<u8>);

impl DomainEvent for LabelPrinted {
    const KINDS: &'static [EventKind] =
        &[EventKind { event_type: "LabelPrinted", schema_version: 1 }];

    fn encode(&self) -> annals::Result<NewEvent> {
        NewEvent::bytes("LabelPrinted", self.0.clone())
    }
    fn decode(stored: &EncodedEvent<'_>) -> Result<Self, Undecodable> {
        Ok(Self(stored.payload.to_vec()))
    }
    fn check_kind(_: &EncodedEvent<'_>) -> Result<(), Undecodable> {
        Ok(())
    }
}

annals::domain_event_union! {
    /// What happens in the shop.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) enum ShopEvent {
        /// To an order.
        Order(OrderEvent),
        Product(ProductEvent),
    }
}

annals::domain_event_union! {
    #[derive(Debug, Clone, PartialEq)]
    enum Everything { Shop(ShopEvent), Label(LabelPrinted) }
}

fn placed(product: &str, count: u32) -> OrderEvent {
    OrderEvent::Placed { product: product.into(), count }
}

fn added(name: &str) -> ProductEvent {
    ProductEvent::Added { name: name.into() }
}

/// Decodes one event from a store.
fn decoded<E: DomainEvent>(event: NewEvent) -> annals::Result<Vec<E>> {
    let store = MemoryStore::new();
    store.append("thing-1", ExpectedVersion::Any, [event])?;
    let recorded = store.read_log().last()?.unwrap();
    let events = Decoder::<E>::new().decode(recorded)?;
    Ok(events.into_iter().map(|it| it.event).collect())
}

#[test]
fn union_has_the_kinds_of_its_members_in_order() {
    let kinds = [OrderEvent::KINDS, ProductEvent::KINDS].concat();
    assert_eq!(ShopEvent::KINDS, kinds);
    assert_eq!(Everything::KINDS, [&kinds, LabelPrinted::KINDS].concat());
    let types: Vec<_> = ShopEvent::KINDS.iter().map(|kind| kind.event_type).collect();
    assert_eq!(types, ["OrderPlaced", "OrderCancelled", "ProductAdded", "ProductRenamed"]);
    assert_eq!(ShopEvent::KINDS.first().map(|kind| kind.schema_version), Some(2));
}

#[test]
fn each_member_encodes_and_decodes_its_own_events() {
    let cases: [(Everything, NewEvent, ContentType); 3] = [
        (
            ShopEvent::from(placed("tea", 2)).into(),
            placed("tea", 2).encode().unwrap(),
            ContentType::JSON,
        ),
        (
            ShopEvent::Product(added("tea")).into(),
            added("tea").encode().unwrap(),
            ContentType::BINCODE,
        ),
        (
            LabelPrinted(vec![0, 1]).into(),
            LabelPrinted(vec![0, 1]).encode().unwrap(),
            ContentType::BYTES,
        ),
    ];
    for (event, by_member, content_type) in cases {
        let encoded = event.encode().unwrap();
        assert_eq!(encoded.content_type(), &content_type);
        assert_eq!(
            (encoded.event_type(), encoded.schema_version(), encoded.payload()),
            (by_member.event_type(), by_member.schema_version(), by_member.payload())
        );
        assert_eq!(decoded::<Everything>(encoded).unwrap(), [event]);
    }
    // The check of the kind is that of the member too: this one accepts any schema version.
    let later = LabelPrinted(vec![7]).encode().unwrap().with_schema_version(9);
    assert_eq!(decoded::<Everything>(later).unwrap(), [LabelPrinted(vec![7]).into()]);
}

#[test]
fn event_that_no_member_knows_is_an_error() {
    let reason = |event: NewEvent| {
        let error = decoded::<Everything>(event).unwrap_err();
        let Error::Unreadable { cause, .. } = &error else { panic!("{error:?}") };
        cause.downcast_ref::<Undecodable>().unwrap().clone()
    };
    let unknown = NewEvent::json("OrderPaid", &json!({})).unwrap();
    assert!(matches!(reason(unknown), Undecodable::UnknownType));
    let old = NewEvent::json("OrderPlaced", &json!({})).unwrap();
    let found = reason(old);
    assert!(matches!(found, Undecodable::OtherSchemaVersion { found: 1, known: 2 }), "{found}");
    let damaged = NewEvent::json("OrderPlaced", &json!({})).unwrap().with_schema_version(2);
    assert!(matches!(reason(damaged), Undecodable::Payload { .. }));
    // Each method reports it by itself.
    let old = EncodedEvent::new_json("OrderPlaced", 1, &json!({})).unwrap();
    let found = Everything::check_kind(&old).unwrap_err();
    assert!(matches!(found, Undecodable::OtherSchemaVersion { found: 1, known: 2 }), "{found}");
    let stored = EncodedEvent::new_json("OrderPaid", 1, &json!({})).unwrap();
    assert!(matches!(Everything::decode(&stored), Err(Undecodable::UnknownType)));
}

/// Counts the ordered pieces of each product, under its current name.
struct Sales;

impl Projection for Sales {
    type Event = ShopEvent;

    fn name(&self) -> &'static str {
        "sales"
    }

    fn handle(
        &self,
        event: &TypedEvent<ShopEvent>,
        view: &mut ViewWriter,
    ) -> Result<(), HandlerError> {
        match &event.event {
            ShopEvent::Order(OrderEvent::Placed { product, count }) => {
                let name: String = view.get(("name", product))?.unwrap_or_default();
                Ok(view.update(("sold", name), |sold: &mut u32| *sold += count)?)
            }
            ShopEvent::Order(OrderEvent::Cancelled) => Ok(()),
            ShopEvent::Product(ProductEvent::Added { name } | ProductEvent::Renamed { name }) => {
                Ok(view.put(("name", event.stream()), name)?)
            }
        }
    }
}

#[test]
fn projection_reads_the_events_of_two_enums() {
    let renamed = ProductEvent::Renamed { name: "Green tea".into() };
    ProjectionScenario::new(Sales)
        .given("product-1", [added("Tea")])
        .given("order-1", [placed("product-1", 2)])
        .given_stored("order-1", [NewEvent::json("OrderPaid", &json!({})).unwrap()])
        .given("product-1", [ShopEvent::from(renamed)])
        .given("order-2", [placed("product-1", 3), OrderEvent::Cancelled])
        .then([
            (("name", "product-1"), json!("Green tea")),
            (("sold", "Green tea"), json!(3)),
            (("sold", "Tea"), json!(2)),
        ]);
}

/// Records the events that it handles.
struct Recorder {
    target: Target,
    handled: Arc<Mutex<Vec<ShopEvent>>>,
}

impl Projection for Recorder {
    type Event = ShopEvent;

    fn name(&self) -> &'static str {
        "recorder"
    }

    fn target(&self) -> Target {
        self.target
    }

    fn handle(
        &self,
        event: &TypedEvent<ShopEvent>,
        _: &mut ViewWriter,
    ) -> Result<(), HandlerError> {
        self.handled.lock().unwrap().push(event.event.clone());
        Ok(())
    }
}

/// Orders had no count, and one event once opened a shop with its first product.
fn upcasters() -> Upcasters {
    Upcasters::builder()
        .reads::<ShopEvent>()
        .json("OrderPlaced", 1, |mut old: Value| {
            old["count"] = 1.into();
            Ok(old)
        })
        .split("ShopOpened", 1, [("ProductAdded", 1), ("OrderPlaced", 1)], |opened| {
            let product: String = opened.json()?;
            Ok(vec![
                EncodedEvent::new_bincode("ProductAdded", 1, &product)?,
                EncodedEvent::new_json("OrderPlaced", 1, &json!({ "product": product }))?,
            ])
        })
        .build()
        .unwrap()
}

/// A shop with an event of each kind, old and new, and one that the union does not have.
fn shop() -> MemoryStore {
    let store = MemoryStore::new();
    let json = |event_type, payload: Value| NewEvent::json(event_type, &payload).unwrap();
    let events = [
        json("ShopOpened", json!("tea")),
        json("OrderPlaced", json!({ "product": "cup" })),
        json("OrderPaid", json!({})),
        placed("cup", 5).encode().unwrap(),
        ProductEvent::Renamed { name: "Green tea".into() }.encode().unwrap(),
    ];
    store.append("shop-1", ExpectedVersion::NoStream, events).unwrap();
    store
}

fn expected() -> Vec<ShopEvent> {
    vec![
        added("tea").into(),
        placed("tea", 1).into(),
        placed("cup", 1).into(),
        placed("cup", 5).into(),
        ProductEvent::Renamed { name: "Green tea".into() }.into(),
    ]
}

#[test]
fn reactor_handles_upcast_events_of_two_enums() {
    let (store, handled) = (shop(), Arc::default());
    let recorder = Recorder { target: Target::Reactor, handled: Arc::clone(&handled) };
    let manager = ProjectionManager::new(&store).upcasters(upcasters()).register(recorder).unwrap();
    manager.start().unwrap();
    manager.wait_for_head(SOON).unwrap();
    assert_eq!(*handled.lock().unwrap(), expected());
}

#[test]
fn decoder_upcasts_events_of_two_enums() {
    let store = shop();
    let decoder = Decoder::<ShopEvent>::with(upcasters());
    let stored_types = decoder.stored_types();
    assert_eq!(stored_types.last(), Some(&"ShopOpened"));
    let events = decoder.iter(store.read_log().types(stored_types));
    let events: Vec<_> = events.map(|event| event.unwrap().event).collect();
    assert_eq!(events, expected());
    // A member alone reads its part of a split event.
    let decoder = Decoder::<ProductEvent>::with(upcasters());
    let events = decoder.iter(store.read_log().types(decoder.stored_types()));
    assert_eq!(events.map(|event| event.unwrap().event).next(), Some(added("tea")));
}

#[test]
fn upcasters_of_the_members_serve_the_union() {
    let build = |builder: annals::UpcastersBuilder| {
        builder.unchanged("OrderPlaced", 1).build().map(|_| ()).map_err(|why| why.to_string())
    };
    let members = Upcasters::builder().reads::<OrderEvent>().reads::<ProductEvent>();
    assert_eq!(build(members), Ok(()));
    let both = Upcasters::builder().reads::<Everything>().reads::<OrderEvent>();
    assert_eq!(build(both), Ok(()));
    let missing = Upcasters::builder().reads::<ShopEvent>().build().unwrap_err().to_string();
    assert!(missing.contains("OrderPlaced"), "{missing}");
}

/// A union may replace an enum of the same events: the projection continues its read model.
#[test]
fn union_continues_the_read_model_of_one_enum() {
    #[derive(Serialize, Deserialize)]
    enum Repeated {
        Renamed { name: String },
        Placed { product: String, count: u32 },
        Added { name: String },
        Cancelled,
    }
    annals::domain_events! { Repeated {
        Renamed => "ProductRenamed",
        Placed => "OrderPlaced" version 2,
        Added => "ProductAdded",
        Cancelled => "OrderCancelled",
    } }
    struct Before;
    impl Projection for Before {
        type Event = Repeated;
        fn name(&self) -> &'static str {
            "recorder"
        }
        fn handle(&self, _: &TypedEvent<Repeated>, _: &mut ViewWriter) -> Result<(), HandlerError> {
            Ok(())
        }
    }
    let store = MemoryStore::new();
    store.append("order-1", ExpectedVersion::Any, [placed("tea", 1).encode().unwrap()]).unwrap();
    let manager = ProjectionManager::new(&store).register(Before).unwrap();
    manager.start().unwrap();
    manager.wait_for_head(SOON).unwrap();
    drop(manager);

    store.append("product-1", ExpectedVersion::Any, [added("tea").encode().unwrap()]).unwrap();
    let handled = Arc::default();
    let recorder = Recorder { target: Target::View, handled: Arc::clone(&handled) };
    let manager = ProjectionManager::new(&store).register(recorder).unwrap();
    manager.start().unwrap();
    manager.wait_for_head(SOON).unwrap();
    assert_eq!(*handled.lock().unwrap(), [added("tea").into()]);
}

#[test]
fn aggregate_has_events_of_a_union() {
    #[derive(Debug, Default)]
    struct Shelf(Vec<String>);
    impl Aggregate for Shelf {
        const CATEGORY: &'static str = "shelf";
        type Event = ShopEvent;
        type Command = ShopEvent;
        type Error = std::convert::Infallible;
        fn apply(&mut self, event: ShopEvent) {
            if let ShopEvent::Product(ProductEvent::Added { name }) = event {
                self.0.push(name);
            }
        }
        fn handle(&self, command: &ShopEvent) -> Result<Vec<ShopEvent>, Self::Error> {
            Ok(vec![command.clone()])
        }
    }
    Scenario::<Shelf>::given([added("tea").into(), placed("tea", 1).into()])
        .when(ShopEvent::from(added("cup")))
        .then([added("cup").into()])
        .then_state(|shelf| shelf.0 == ["tea", "cup"]);
}
