//! Each event, snapshot and view value that annals encodes decodes to the same value, or is refused
//! before it is stored.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use annals::prelude::*;
use annals::testing::Scenario;
use annals::{Bincode, Codec, Json, SnapshotFault, domain_events};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

/// Values that some format stores as another value, or writes but cannot read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
enum Value {
    #[default]
    Nothing,
    Float(f64),
    Single {
        field: Option<f32>,
    },
    Floats(Vec<Option<f64>>),
    ByText(HashMap<String, f64>),
    Skipped(Skipped),
    Tagged(Tagged),
    Flat(Flat),
    Untagged(Untagged),
    Wide(i128, u128),
    ByNumber(BTreeMap<i64, u8>),
    ByPair(BTreeMap<(u8, u8), u8>),
    Letter(char),
    Unit(()),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Skipped {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<u8>,
    amount: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rest: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    Wide { number: i128 },
    ByNumber { map: BTreeMap<u64, u8> },
    Float { number: f64 },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Flat {
    id: u8,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Rest {
    map: BTreeMap<i32, u8>,
    number: i128,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Small(u64),
    Wide(u128),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum JsonEvent {
    Set(Value),
    Named { value: Value, also: Option<Value> },
}
domain_events! { JsonEvent { Set => "Set", Named => "Named" } }

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum BincodeEvent {
    Set(Value),
    Named { value: Value, also: Option<Value> },
}
domain_events! { codec Bincode; BincodeEvent { Set => "Set", Named => "Named" } }

/// An event that every codec preserves. Its `value` is one that some codecs do not preserve.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Made {
    shape: u8,
    number: i128,
    float: f64,
}
domain_events! { codec Bincode; Made => "Made" }

impl Made {
    fn value(&self) -> Value {
        let Self { shape, number, float } = *self;
        let map = || BTreeMap::from([(7, 1)]);
        match shape {
            0 => Value::Float(float),
            1 => Value::Floats(vec![None, Some(float)]),
            2 => Value::Skipped(Skipped { note: None, amount: 5, rest: vec![1, 2] }),
            3 => Value::Tagged(Tagged::Wide { number }),
            4 => Value::Tagged(Tagged::ByNumber { map: BTreeMap::from([(7, 1)]) }),
            5 => Value::Flat(Flat { id: 1, rest: Rest { map: map(), number } }),
            6 => Value::Untagged(Untagged::Wide(number.unsigned_abs() | 1 << 64)),
            7 => Value::Wide(number, number.unsigned_abs()),
            _ => Value::ByPair(BTreeMap::from([((1, 2), 3)])),
        }
    }
}

fn made() -> impl Strategy<Value = Made> {
    let float = prop_oneof![Just(f64::INFINITY), any::<f64>()];
    (0..9_u8, wide(), float).prop_map(|(shape, number, float)| Made { shape, number, float })
}

/// Keeps the last value.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Keeper {
    value: Value,
}

impl Aggregate for Keeper {
    const CATEGORY: &'static str = "keeper";
    type Event = Made;
    type Command = Made;
    type Error = std::convert::Infallible;

    fn apply(&mut self, made: Made) {
        self.value = made.value();
    }
    fn handle(&self, made: &Made) -> Result<Vec<Made>, Self::Error> {
        Ok(vec![made.clone()])
    }
}

/// Keeps the last value of each stream.
struct Last;

impl Projection for Last {
    type Event = Made;

    fn name(&self) -> &'static str {
        "last"
    }
    fn handle(&self, made: &TypedEvent<Made>, view: &mut ViewWriter) -> Result<(), HandlerError> {
        Ok(view.put(made.stream(), &made.event.value())?)
    }
}

/// Formats a value for comparison: NaN equals itself, 0 differs from -0, and the order of map
/// entries does not matter.
fn shape(value: &impl Debug) -> Vec<u8> {
    let mut text = format!("{value:?}").into_bytes();
    text.sort_unstable();
    text
}

fn wide() -> impl Strategy<Value = i128> {
    prop_oneof![Just(0), Just(i128::from(u64::MAX) + 1), Just(-1), any::<i128>()]
}

fn values() -> impl Strategy<Value = Value> {
    let float = || prop_oneof![Just(f64::NAN), Just(f64::NEG_INFINITY), Just(-0.0), any::<f64>()];
    prop_oneof![
        float().prop_map(Value::Float),
        prop::option::of(prop_oneof![Just(f32::INFINITY), any::<f32>()])
            .prop_map(|field| Value::Single { field }),
        prop::collection::vec(prop::option::of(float()), 0..3).prop_map(Value::Floats),
        prop::collection::hash_map("[a-c]{1,2}", float(), 0..3).prop_map(Value::ByText),
        (prop::option::of(any::<u8>()), any::<u64>(), prop::collection::vec(any::<u8>(), 0..3))
            .prop_map(|(note, amount, rest)| Value::Skipped(Skipped { note, amount, rest })),
        prop_oneof![
            wide().prop_map(|number| Tagged::Wide { number }),
            prop::collection::btree_map(any::<u64>(), any::<u8>(), 0..2)
                .prop_map(|map| Tagged::ByNumber { map }),
            float().prop_map(|number| Tagged::Float { number }),
        ]
        .prop_map(Value::Tagged),
        (any::<u8>(), prop::collection::btree_map(any::<i32>(), any::<u8>(), 0..2), wide())
            .prop_map(|(id, map, number)| Value::Flat(Flat { id, rest: Rest { map, number } })),
        prop_oneof![
            any::<u64>().prop_map(Untagged::Small),
            wide().prop_map(|number| Untagged::Wide(number.unsigned_abs() | 1 << 64)),
        ]
        .prop_map(Value::Untagged),
        (wide(), wide()).prop_map(|(a, b)| Value::Wide(a, b.unsigned_abs())),
        prop::collection::btree_map(any::<i64>(), any::<u8>(), 0..3).prop_map(Value::ByNumber),
        prop::collection::btree_map(any::<(u8, u8)>(), any::<u8>(), 0..3).prop_map(Value::ByPair),
        any::<char>().prop_map(Value::Letter),
        Just(Value::Unit(())),
    ]
}

/// Asserts that an event that encodes decodes to the same event.
fn check_event<E: DomainEvent + Debug>(store: &MemoryStore, event: &E) {
    let Ok(encoded) = event.encode() else { return };
    store.append("s", ExpectedVersion::Any, [encoded]).unwrap();
    let stored = store.read_stream("s").last().unwrap().unwrap();
    let read = E::decode(&stored.as_ref().into()).unwrap();
    assert_eq!(shape(&read), shape(event), "{event:?} was stored as {read:?}");
}

/// Asserts that a state restored from a snapshot in this codec equals the fold of the history.
fn check_snapshot<C: Codec>(made: &Made) {
    let store = MemoryStore::new();
    let keepers =
        Repository::<Keeper>::new(&store).snapshots_as::<C>(&store, SnapshotPolicy::every(1));
    let done = keepers.execute("1", made).unwrap();
    let value = shape(&made.value());
    assert_eq!(shape(&done.state().value), value);
    assert_eq!(shape(&keepers.load("1").unwrap().state().value), value);
    let stats = keepers.snapshot_stats();
    assert_eq!((stats.written + stats.failed, stats.used, stats.ignored), (1, stats.written, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn events_round_trip_or_are_refused(value in values(), also in prop::option::of(values())) {
        let store = MemoryStore::new();
        check_event(&store, &JsonEvent::Set(value.clone()));
        check_event(&store, &BincodeEvent::Set(value.clone()));
        check_event(&store, &JsonEvent::Named { value: value.clone(), also: also.clone() });
        check_event(&store, &BincodeEvent::Named { value, also });
    }

    #[test]
    fn snapshots_restore_the_folded_state(made in made()) {
        check_snapshot::<Json>(&made);
        check_snapshot::<Bincode>(&made);
    }
}

/// A handler that puts such a value fails at that event, not at the next one.
#[test]
fn view_values_round_trip_or_are_refused() {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(60));
    let checked = runner.run(&made(), |made| {
        let (store, value) = (MemoryStore::new(), made.value());
        store.append("s", ExpectedVersion::Any, [made.encode().unwrap()]).unwrap();
        let once = ProjectionOptions::new().retries(0);
        let manager = ProjectionManager::new(&store).register_with(Last, once).unwrap();
        manager.start().unwrap();
        if manager.wait_for_head(Duration::from_secs(60)).is_ok() {
            let read: Value = store.view("last").get("s").unwrap().unwrap();
            assert_eq!(shape(&read), shape(&value));
        } else {
            assert!(Json::encode(&value).and_then(|bytes| Json::decode::<Value>(&bytes)).is_err());
        }
        Ok(())
    });
    checked.unwrap();
}

fn refusal<E: DomainEvent>(event: &E) -> String {
    event.encode().unwrap_err().to_string()
}

#[test]
fn refused_value_is_named_with_a_remedy() {
    let single = Value::Single { field: Some(f32::NAN) };
    assert_eq!(
        refusal(&JsonEvent::Named { value: single, also: None }),
        "payload of Named: field `field` is NaN, which JSON cannot store; store it as text, or use another codec"
    );
    let skipped = Value::Skipped(Skipped { note: None, amount: 1, rest: vec![1] });
    assert_eq!(
        refusal(&BincodeEvent::Set(skipped)),
        "payload of Set: field `note` is skipped, and bincode would read the next field in its place; remove \
         skip_serializing_if from it, or use another codec"
    );
    let text = refusal(&JsonEvent::Set(Value::Tagged(Tagged::Wide { number: 1 << 80 })));
    assert!(
        text.starts_with(
            "payload of Set: it was encoded as application/json, but does not decode: "
        ),
        "{text}"
    );
    let text = NewEvent::json("Set", &[f64::INFINITY]).unwrap_err().to_string();
    assert!(
        text.starts_with("payload of Set: the value is inf, which JSON cannot store"),
        "{text}"
    );
}

/// JSON has one `null` for `None` and `Some(None)`, and nothing at run time distinguishes them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[expect(clippy::option_option, reason = "it is what is tested")]
struct Patched {
    name: Option<Option<u8>>,
}
domain_events! { Patched => "Patched" }

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(clippy::option_option, reason = "it is what is tested")]
struct Profile {
    name: Option<Option<u8>>,
    patches: u32,
}

impl Aggregate for Profile {
    const CATEGORY: &'static str = "profile";
    type Event = JsonEvent;
    type Command = ();
    type Error = std::convert::Infallible;

    fn apply(&mut self, _: JsonEvent) {
        self.name = Some(None);
        self.patches += 1;
    }
    fn handle(&self, (): &()) -> Result<Vec<JsonEvent>, Self::Error> {
        Ok(vec![JsonEvent::Set(Value::Nothing)])
    }
}

impl Aggregate for Patched {
    const CATEGORY: &'static str = "patched";
    type Event = Self;
    type Command = ();
    type Error = std::convert::Infallible;

    fn apply(&mut self, event: Self) {
        *self = event;
    }
    fn handle(&self, (): &()) -> Result<Vec<Self>, Self::Error> {
        Ok(vec![Self { name: Some(None) }])
    }
}

fn panic_of(test: impl FnOnce()) -> String {
    *catch_unwind(AssertUnwindSafe(test)).unwrap_err().downcast::<String>().unwrap()
}

#[test]
fn testing_kit_finds_lossy_codecs() {
    assert!(Patched { name: Some(None) }.encode().is_ok(), "a limit of JSON that the docs state");
    let text = panic_of(|| drop(Scenario::<Patched>::given([]).when(()).then_nothing()));
    assert!(text.contains("an event decodes to a different event"), "{text}");

    let state = || Scenario::<Profile>::given([]).when(());
    state().then_snapshot_restores::<Bincode>();
    let text = panic_of(|| drop(state().then_snapshot_restores::<Json>()));
    assert!(text.contains("then a snapshot restores a different state"), "{text}");
}

/// A type whose `==` compares only one of its two fields.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Half {
    seen: u8,
    #[serde(skip_deserializing, default)]
    unseen: u8,
}
domain_events! { Half => "Half" }

impl PartialEq for Half {
    fn eq(&self, other: &Self) -> bool {
        self.seen == other.seen
    }
}

impl Aggregate for Half {
    const CATEGORY: &'static str = "half";
    type Event = Self;
    type Command = ();
    type Error = std::convert::Infallible;

    fn apply(&mut self, event: Self) {
        *self = event;
    }
    fn handle(&self, (): &()) -> Result<Vec<Self>, Self::Error> {
        Ok(vec![Self { seen: 1, unseen: 7 }])
    }
}

#[test]
fn scenario_detects_differences_that_equality_ignores() {
    let text = panic_of(|| drop(Scenario::<Half>::given([]).when(()).then_nothing()));
    assert!(text.contains("encodes to different bytes"), "{text}");

    let map: HashMap<String, f64> = (0..20_u8).map(|n| (n.to_string(), f64::from(n))).collect();
    let event = JsonEvent::Set(Value::ByText(map));
    Scenario::<Profile>::given([event]).when(()).then([JsonEvent::Set(Value::Nothing)]);
}

#[test]
fn check_snapshots_names_the_codec_that_changes_the_state() {
    let store = MemoryStore::new();
    let profiles = Repository::<Profile>::new(&store).snapshots(&store, SnapshotPolicy::every(1));
    profiles.execute("1", &()).unwrap();
    let report = profiles.check_snapshots("1").unwrap();
    let fault = report.snapshots[0].fault.clone().unwrap();
    assert!(matches!(fault, SnapshotFault::ChangedByCodec { .. }), "{fault}");
    assert!(
        fault.to_string().starts_with("the codec for application/json does not restore"),
        "{fault}"
    );
}

#[test]
fn event_made_unreadable_by_a_closure_is_not_raised() {
    let keepers = Repository::<Keeper>::new(&MemoryStore::new());
    let mut keeper = keepers.load_or_new("1").unwrap();
    let other = |event: NewEvent| {
        let bytes = NewEvent::bytes("Made", [255]).unwrap().with_id(event.id());
        bytes.with_content_type(event.content_type().clone())
    };
    let newer = |event: NewEvent| event.with_schema_version(2);
    assert!(keeper.raise_with(Made::default(), other).is_err());
    assert!(keeper.raise_with(Made::default(), newer).is_err());
    assert_eq!((keeper.state(), keeper.uncommitted().len()), (&Keeper::default(), 0));
}
