//! Typed events: every value of a serde enum round-trips through any codec and any store, and the
//! error of an unreadable event names the event and the reason.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use annals::prelude::*;
use annals::{Bincode, Codec, ContentType, Decoder, Error, Undecodable, domain_events};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::support::{place, quick};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Address {
    street: String,
    number: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Why {
    Said(String),
    Unsaid,
}

/// Stores a number as text.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
    pub(super) fn serialize<S: Serializer>(number: &u64, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&number.to_string())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Every form of a variant, with the serde attributes that its fields allow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Everything {
    Named {
        amount: i64,
        #[serde(default)]
        note: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        #[serde(with = "as_text")]
        number: u64,
        #[serde(rename = "why")]
        reason: Why,
        #[serde(skip)]
        cached: (),
    },
    Wrapping(Address),
    Maybe(Option<u8>),
    Several(i32, String, Why),
    Nothing,
    NoFields {},
    Flat {
        id: u32,
        #[serde(flatten)]
        rest: BTreeMap<String, String>,
    },
}

domain_events! { Everything {
    Named => "Named" version 7,
    Wrapping => "Wrapping",
    Maybe => "Maybe",
    Several => "Several",
    Nothing => "Nothing",
    NoFields => "NoFields",
    Flat => "Flat",
} }

/// The same as a generic type, without what only formats with field names support.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Dense<T> {
    Named { amount: T, why: Why, number: u64 },
    Wrapping(Address),
    Maybe(Option<u8>),
    Several(T, String, Why),
    Nothing,
}
type DenseEvent = Dense<i64>;

domain_events! { codec Bincode; DenseEvent {
    Named => "Named",
    Wrapping => "Wrapping",
    Maybe => "Maybe",
    Several => "Several",
    Nothing => "Nothing",
} }

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Single {
    lines: Vec<String>,
}
domain_events! { Single => "Single" version 3 }

fn why() -> impl Strategy<Value = Why> {
    prop_oneof![any::<String>().prop_map(Why::Said), Just(Why::Unsaid)]
}

fn address() -> impl Strategy<Value = Address> {
    any::<(String, Option<u16>)>().prop_map(|(street, number)| Address { street, number })
}

fn everything() -> impl Strategy<Value = Everything> {
    let named = any::<(i64, String, Option<String>, u64)>();
    prop_oneof![
        (named, why()).prop_map(|((amount, note, by, number), reason)| Everything::Named {
            amount,
            note,
            by,
            number,
            reason,
            cached: (),
        }),
        address().prop_map(Everything::Wrapping),
        any::<Option<u8>>().prop_map(Everything::Maybe),
        (any::<(i32, String)>(), why()).prop_map(|((a, b), c)| Everything::Several(a, b, c)),
        Just(Everything::Nothing),
        Just(Everything::NoFields {}),
        // The names in `rest` must differ from those of the fields next to it.
        (any::<u32>(), prop::collection::btree_map("[A-Z]{1,3}", any::<String>(), 0..3))
            .prop_map(|(id, rest)| Everything::Flat { id, rest }),
    ]
}

fn dense() -> impl Strategy<Value = DenseEvent> {
    prop_oneof![
        (any::<(i64, u64)>(), why()).prop_map(|((amount, number), why)| Dense::Named {
            amount,
            why,
            number
        }),
        address().prop_map(Dense::Wrapping),
        any::<Option<u8>>().prop_map(Dense::Maybe),
        (any::<(i64, String)>(), why()).prop_map(|((a, b), c)| Dense::Several(a, b, c)),
        Just(Dense::Nothing),
    ]
}

/// Encodes, appends, reads and decodes values; returns the decoded values.
fn through<E: DomainEvent>(store: &dyn EventStore, stream: &str, values: &[E]) -> Vec<E> {
    let events: Vec<_> = values.iter().map(|value| value.encode().unwrap()).collect();
    store.append(stream, ExpectedVersion::NoStream, events).unwrap();
    let events = Decoder::<E>::new().iter(store.read_stream(stream));
    events.map(|event| event.unwrap().event).collect()
}

#[test]
fn every_value_round_trips_in_every_store_and_codec() {
    let (_directory, path) = place();
    let stores: [Arc<dyn EventStore>; 2] =
        [Arc::new(MemoryStore::new()), Arc::new(quick().open(path).unwrap())];
    let cases = Cell::new(0);
    let values = (
        prop::collection::vec(everything(), 1..5),
        prop::collection::vec(dense(), 1..5),
        prop::collection::vec(any::<Vec<String>>().prop_map(|lines| Single { lines }), 1..3),
    );
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) };
    let run = proptest::test_runner::TestRunner::new(config).run(
        &values,
        |(everything, dense, single)| {
            let case = cases.replace(cases.get() + 1);
            for store in &stores {
                let names = ["json", "dense", "single"].map(|name| format!("{name}-{case}"));
                prop_assert_eq!(&through(store, &names[0], &everything), &everything);
                prop_assert_eq!(&through(store, &names[1], &dense), &dense);
                prop_assert_eq!(&through(store, &names[2], &single), &single);
            }
            Ok(())
        },
    );
    run.unwrap();
}

#[test]
fn payload_holds_only_the_fields() {
    let by = Some("Ada".to_owned());
    let named = |by| Everything::Named {
        amount: -7,
        note: String::new(),
        by,
        number: 9,
        reason: Why::Said("so".into()),
        cached: (),
    };
    let home = Address { street: "Elm".into(), number: None };
    let rest = [("a".to_owned(), "b".to_owned())].into_iter().collect();
    let expected = [
        (named(None), r#"{"amount":-7,"note":"","number":"9","why":{"Said":"so"}}"#),
        (named(by), r#"{"amount":-7,"note":"","by":"Ada","number":"9","why":{"Said":"so"}}"#),
        (Everything::Wrapping(home), r#"{"street":"Elm","number":null}"#),
        (Everything::Maybe(None), "null"),
        (Everything::Several(1, "x".into(), Why::Unsaid), r#"[1,"x","Unsaid"]"#),
        (Everything::Nothing, "{}"),
        (Everything::NoFields {}, "{}"),
        (Everything::Flat { id: 1, rest }, r#"{"id":1,"a":"b"}"#),
    ];
    for (value, payload) in expected {
        let event = value.encode().unwrap();
        assert_eq!(std::str::from_utf8(event.payload()).unwrap(), payload);
        assert_eq!(event.content_type(), &ContentType::JSON);
    }
    let named = Dense::Named { amount: -1, why: Why::Unsaid, number: 300 }.encode().unwrap();
    // Zigzag, the index of the inner variant, and 300 after its two-byte marker: no field names,
    // and no index of the outer variant.
    assert_eq!(named.payload(), [1, 1, 251, 44, 1]);
    assert!(DenseEvent::Nothing.encode().unwrap().payload().is_empty());
}

/// Decodes one event that other code has written.
fn decoded<E: DomainEvent>(event: NewEvent) -> annals::Result<E> {
    let store = MemoryStore::new();
    store.append("thing-1", ExpectedVersion::Any, [NewEvent::bytes("First", "")?, event])?;
    let recorded = store.read_log().last()?.unwrap();
    Ok(Decoder::<E>::new().decode(recorded)?.remove(0).event)
}

fn stored(event_type: &str, payload: &Value) -> NewEvent {
    NewEvent::json(event_type, payload).unwrap()
}

#[test]
fn variant_may_gain_defaulted_fields_and_lose_fields() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Later {
        Nothing {
            #[serde(default)]
            reason: String,
        },
        Maybe,
    }
    domain_events! { Later { Nothing => "Nothing", Maybe => "Wrapping" } }

    let nothing = decoded::<Later>(Everything::Nothing.encode().unwrap()).unwrap();
    assert_eq!(nothing, Later::Nothing { reason: String::new() });
    let home = Address { street: "Elm".into(), number: Some(1) };
    assert_eq!(
        decoded::<Later>(Everything::Wrapping(home).encode().unwrap()).unwrap(),
        Later::Maybe
    );
    for empty in [json!(null), json!({}), json!([]), json!({ "more": [1, { "a": 2 }] })] {
        assert_eq!(decoded::<Everything>(stored("Nothing", &empty)).unwrap(), Everything::Nothing);
    }
}

#[test]
fn one_stream_holds_events_of_several_codecs() {
    /// The event in the current code, which changed its codec from JSON to bincode.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Moved(Address);
    domain_events! { codec Bincode; Moved => "Wrapping" }

    let home = |number| Address { street: "Elm".into(), number: Some(number) };
    let store = MemoryStore::new();
    let events =
        [Everything::Wrapping(home(1)).encode().unwrap(), Moved(home(2)).encode().unwrap()];
    store.append("person-1", ExpectedVersion::Any, events).unwrap();
    let moved = Decoder::<Moved>::new().iter(store.read_stream("person-1"));
    let moved: Vec<_> = moved.map(|event| event.unwrap().event).collect();
    assert_eq!(moved, [Moved(home(1)), Moved(home(2))]);
    let everything = Decoder::<Everything>::new().iter(store.read_stream("person-1"));
    let everything: Vec<_> = everything.map(|event| event.unwrap().event).collect();
    assert_eq!(everything, [Everything::Wrapping(home(1)), Everything::Wrapping(home(2))]);
}

#[test]
fn decode_error_names_event_and_cause() {
    let bytes = |event_type: &str, payload: &[u8]| NewEvent::bytes(event_type, payload).unwrap();
    let named = json!({ "amount": 1, "number": "1", "why": "Unsaid" });
    let cases = [
        (stored("Unheard", &json!(1)), "no event of this type: name it in domain_events!, or have"),
        (stored("Named", &named), "reads schema version 7 of it: an upcaster is missing"),
        (stored("Named", &named).with_schema_version(8), "7 of it: this program is older"),
        (stored("Wrapping", &json!({})), "its payload does not decode: missing field `street`"),
        (stored("Several", &json!([1, "x", "Unsaid", 4])), "its payload does not decode: trailing"),
        (stored("Nothing", &json!("text")), "its payload does not decode: invalid type: string"),
        (bytes("Nothing", b"{").with_content_type(ContentType::JSON), "does not decode: EOF"),
        (
            bytes("Nothing", &[0]).with_content_type(ContentType::BINCODE),
            "left over after the value: 1",
        ),
        (bytes("Nothing", b"{}"), "octet-stream: JSON and bincode are always read"),
    ];
    for (event, why) in cases {
        let (id, event_type) = (event.id(), event.event_type().clone());
        let error = decoded::<Everything>(event).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(why), "{text}");
        assert!(
            text.starts_with(&format!("event {id} at position 2 of stream thing-1, {event_type}"))
        );
        let Error::Unreadable { position, cause, .. } = error else { panic!("{error:?}") };
        assert_eq!(position.get(), 2);
        assert!(cause.downcast_ref::<Undecodable>().is_some());
    }
}

#[test]
fn enum_with_another_serde_tag_is_refused_with_a_remedy() {
    #[derive(Debug, Serialize, Deserialize)]
    enum Renamed {
        #[serde(rename = "made")]
        Made {},
    }
    domain_events! { Renamed { Made => "Made" } }
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(tag = "type")]
    enum Tagged {
        Made {},
    }
    domain_events! { Tagged { Made => "Made" } }
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(tag = "type", content = "data")]
    enum Adjacent {
        Made {},
    }
    domain_events! { Adjacent { Made => "Made" } }
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Made { a: u8 },
    }
    domain_events! { Untagged { Made => "Made" } }

    fn assert_refused<E: DomainEvent>(value: &E, advice: &str) {
        let encoding = value.encode().unwrap_err().to_string();
        assert!(
            encoding.starts_with("payload of Made: ") && encoding.contains(advice),
            "{encoding}"
        );
        let decoding = decoded::<E>(stored("Made", &json!({ "a": 1 }))).err().unwrap().to_string();
        assert!(decoding.contains(advice), "{decoding}");
    }
    assert_refused(&Renamed::Made {}, "remove `rename` or `rename_all` from the variants");
    let attributes =
        "as an enum in its default form: remove the attributes `tag`, `content`, `untagged`";
    assert_refused(&Tagged::Made {}, attributes);
    assert_refused(&Adjacent::Made {}, attributes);
    assert_refused(&Untagged::Made { a: 1 }, attributes);
}

#[test]
fn application_codec_is_used_for_its_content_type() {
    /// JSON with every bit inverted.
    struct Turned;

    impl Codec for Turned {
        fn content_type() -> ContentType {
            ContentType::new("application/x-turned").unwrap()
        }
        fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, annals::Cause> {
            let bytes = serde_json::to_vec(value).map_err(annals::Cause::new)?;
            Ok(bytes.into_iter().map(|byte| !byte).collect())
        }
        fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, annals::Cause> {
            let bytes: Vec<_> = payload.iter().map(|byte| !byte).collect();
            serde_json::from_slice(&bytes).map_err(annals::Cause::new)
        }
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Secret {
        Told { to: String },
        Kept,
    }
    domain_events! { codec Turned; Secret { Told => "Told", Kept => "Kept" } }

    let told = Secret::Told { to: "Ada".into() };
    assert_eq!(told.encode().unwrap().content_type().as_str(), "application/x-turned");
    assert_eq!(decoded::<Secret>(told.encode().unwrap()).unwrap(), told);
    assert_eq!(decoded::<Secret>(Secret::Kept.encode().unwrap()).unwrap(), Secret::Kept);
    assert_eq!(decoded::<Secret>(stored("Told", &json!({ "to": "Ada" }))).unwrap(), told);
}

/// Regression: the text of a number did not always parse to the same number.
#[test]
fn json_numbers_round_trip() {
    let store = MemoryStore::new();
    let mut number = 0.1_f64;
    for _ in 0..2_000 {
        number = (number * 1.618_033_988_749 + 31.245_270_191_439_438) % 1e9;
        let event = NewEvent::json("Measured", &number).unwrap();
        store.append("a", ExpectedVersion::Any, [event]).unwrap();
        let stored = store.read_stream("a").last().unwrap().unwrap();
        assert_eq!(stored.json::<f64>().unwrap().to_bits(), number.to_bits(), "{number}");
    }
}

mod tagged {
    use annals::prelude::*;
    use annals::{Bincode, DomainEvent, EncodedEvent, EventKind, NewEvent, Undecodable};
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(super) enum Course {
        Defined { course: String },
        Closed,
    }
    annals::domain_events! {
        codec Bincode;
        tags Course::named;
        Course { Defined => "CourseDefined", Closed => "CoursesClosed" }
    }

    impl Course {
        fn named(&self) -> Vec<String> {
            match self {
                Self::Defined { course } => vec![format!("course:{course}")],
                Self::Closed => Vec::new(),
            }
        }
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Joined {
        pub(super) student: String,
    }
    annals::domain_events! {
        tags |joined| vec![format!("student:{}", joined.student)];
        Joined => "StudentJoined"
    }

    /// Implemented by hand: `encode` does not add the tag.
    #[derive(Debug, PartialEq)]
    pub(super) struct Scanned(pub(super) Vec<u8>);

    impl DomainEvent for Scanned {
        const KINDS: &'static [EventKind] =
            &[EventKind { event_type: "Scanned", schema_version: 1 }];

        fn encode(&self) -> annals::Result<NewEvent> {
            NewEvent::bytes("Scanned", self.0.clone())
        }

        fn decode(stored: &EncodedEvent<'_>) -> Result<Self, Undecodable> {
            Ok(Self(stored.payload.to_vec()))
        }

        fn tags(&self) -> Vec<String> {
            vec![format!("len:{}", self.0.len())]
        }
    }

    annals::domain_event_union! {
        #[derive(Debug, PartialEq)]
        pub(super) enum Any { Course(Course), Joined(Joined), Scanned(Scanned) }
    }

    #[derive(Default)]
    pub(super) struct Office;

    impl Aggregate for Office {
        const CATEGORY: &'static str = "office";
        type Event = Any;
        type Command = ();
        type Error = std::convert::Infallible;

        fn apply(&mut self, _: Any) {}

        fn handle(&self, (): &()) -> Result<Vec<Any>, Self::Error> {
            let course = Course::Defined { course: "c1".into() };
            let joined = Joined { student: "s1".into() };
            Ok(vec![course.into(), Course::Closed.into(), joined.into(), Scanned(vec![7]).into()])
        }
    }
}

/// The tags of an event are stored with it, in each form in which events can be stated.
#[test]
fn events_are_stored_with_their_tags() {
    let store = MemoryStore::new();
    Repository::<tagged::Office>::new(&store).command("1").with_tag("more").run(&()).unwrap();
    let stored: Vec<_> = store.read_log().into_iter().map(|event| event.unwrap()).collect();
    let tags: Vec<_> = stored.iter().map(|event| event.tags().join(" ")).collect();
    assert_eq!(tags, ["course:c1 more", "more", "student:s1 more", "len:1 more"]);
    let joined = tagged::Any::from(tagged::Joined { student: "s2".into() });
    assert_eq!(
        (joined.tags(), joined.encode().unwrap().tags().len()),
        (vec!["student:s2".into()], 1)
    );

    let invalid = tagged::Joined { student: "\n".into() }.encode().unwrap();
    let refused = store.append("a", ExpectedVersion::Any, [invalid]).unwrap_err();
    assert!(matches!(refused, Error::InvalidArgument(_)), "{refused:?}");
}
