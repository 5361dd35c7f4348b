//! Upcasters that read JSON as a `Value` keep the digits of numbers.

use std::collections::BTreeMap;

use annals::prelude::*;
use annals::{
    Decoder, EncodedEvent, Error, EventType, UpcastFailed, Upcasters, UpcastersBuilder,
    domain_events,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The current event, which keeps each field as it was written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Paid(BTreeMap<String, Box<RawValue>>);
domain_events! { Paid => "Paid" version 2 }

const INTEGER: &str = "123456789012345678901234567890";
const NEIGHBOUR: &str = "123456789012345678901234567891";
const DECIMAL: &str = "0.1234567890123456789012345678901234567890";

fn steps() -> UpcastersBuilder {
    Upcasters::builder().reads::<Paid>()
}

/// Adds a field and changes no other.
fn adding() -> Upcasters {
    let add = |mut old: Value| {
        old["currency"] = "EUR".into();
        Ok(old)
    };
    steps().json("Paid", 1, add).build().unwrap()
}

fn paid(payload: &str) -> EncodedEvent<'_> {
    EncodedEvent {
        event_type: "Paid".into(),
        schema_version: 1,
        content_type: "application/json".into(),
        payload: payload.as_bytes().into(),
    }
}

/// Returns the payload of the only event that the upcasters yield.
fn upcast(upcasters: &Upcasters, payload: &str) -> Result<String, UpcastFailed> {
    let mut events = upcasters.apply(paid(payload))?;
    assert_eq!(events.len(), 1);
    Ok(String::from_utf8(events.remove(0).payload.into_owned()).unwrap())
}

/// Returns the field and the number that the error names.
fn refused(upcasters: &Upcasters, payload: &str) -> (String, String) {
    match upcast(upcasters, payload) {
        Err(UpcastFailed::Number { field, number, .. }) => (field, number),
        other => panic!("not refused for a number: {other:?}"),
    }
}

#[test]
fn value_upcaster_keeps_digits_of_untouched_numbers() {
    let kept = [INTEGER, DECIMAL, "100000000000000000000", "-18446744073709551616", "1e-400"];
    for number in kept {
        let payload = format!(r#"{{"amount":{number},"items":[{{"price":{number}}}],"n":1.5}}"#);
        let expected = payload.replace(r#","items""#, r#","currency":"EUR","items""#);
        assert_eq!(upcast(&adding(), &payload).unwrap(), expected);
    }
    // Text that looks like a number is text.
    let text = format!(r#"{{"amount":{INTEGER},"note":"\" {INTEGER}e9"}}"#);
    assert!(upcast(&adding(), &text).unwrap().contains(&format!(r#""note":"\" {INTEGER}e9""#)));
}

#[test]
fn moved_renamed_and_split_numbers_keep_their_digits() {
    let rename = |mut old: Value| {
        old["total"] = json!({ "cents": old["amount"].take() });
        old.as_object_mut().ok_or("no object")?.remove("amount");
        Ok(old)
    };
    let renaming = steps().json("Paid", 1, rename).build().unwrap();
    let payload = format!(r#"{{"amount":{INTEGER}}}"#);
    let renamed = upcast(&renaming, &payload).unwrap();
    assert_eq!(renamed, format!(r#"{{"total":{{"cents":{INTEGER}}}}}"#));

    let splitting = steps().split("Paid", 1, [("Paid", 2)], |old| {
        let value: Value = old.json()?;
        let part = |name: &str| EncodedEvent::new_json("Paid", 2, &json!({ "only": value[name] }));
        Ok(vec![part("a")?, part("b")?])
    });
    let splitting = splitting.build().unwrap();
    let payload = format!(r#"{{"a":{INTEGER},"b":{DECIMAL}}}"#);
    let parts = splitting.apply(paid(&payload)).unwrap();
    let parts: Vec<_> =
        parts.iter().map(|part| std::str::from_utf8(&part.payload).unwrap()).collect();
    assert_eq!(parts, [format!(r#"{{"only":{INTEGER}}}"#), format!(r#"{{"only":{DECIMAL}}}"#)]);
}

#[test]
fn number_that_a_value_cannot_keep_is_refused_with_its_field() {
    let huge = r#"{"a":[1,{"rate":1e400}]}"#;
    assert_eq!(refused(&adding(), huge), ("a[1].rate".into(), "1e400".into()));
    for (one, other) in [(INTEGER, NEIGHBOUR), ("0.1", "0.10000000000000000001")] {
        let alike = format!(r#"{{"from":{one},"to":{other}}}"#);
        assert_eq!(refused(&adding(), &alike).0, "from");
    }
    // A step that removes the numbers needs no digits.
    let removing = steps().json("Paid", 1, |_: Value| Ok(json!({}))).build().unwrap();
    let alike = format!(r#"{{"from":{INTEGER},"to":{NEIGHBOUR}}}"#);
    assert_eq!(upcast(&removing, &alike).unwrap(), "{}");

    // The error of a read names the number and its field.
    let store = MemoryStore::new();
    let event = NewEvent::new(EventType::new("Paid").unwrap(), huge)
        .with_content_type(annals::ContentType::JSON);
    store.append("a", ExpectedVersion::Any, [event]).unwrap();
    let decoder = Decoder::<Paid>::with(adding());
    let unreadable = decoder.iter(store.read_log()).next().unwrap().unwrap_err();
    assert!(matches!(&unreadable, Error::Unreadable { .. }), "{unreadable}");
    let text = unreadable.to_string();
    assert!(text.contains("1e400") && text.contains("`a[1].rate`"), "{text}");
}

#[test]
fn upcaster_with_its_own_types_controls_the_digits() {
    #[derive(Serialize, Deserialize)]
    struct Own {
        from: u128,
        to: u128,
        rate: Box<RawValue>,
    }
    let own = |old: Own| Ok(json!({ "sum": old.rate, "to": old.to.to_string(), "fee": 0.1 }));
    let own = steps().json("Paid", 1, own).build().unwrap();
    let payload = format!(r#"{{"from":{INTEGER},"to":{NEIGHBOUR},"rate":1.50}}"#);
    let read = upcast(&own, &payload).unwrap();
    assert_eq!(read, format!(r#"{{"fee":0.1,"sum":1.5,"to":"{NEIGHBOUR}"}}"#));

    let same = steps().json("Paid", 1, |old: Own| Ok(old)).build().unwrap();
    let payload = format!(r#"{{"from":{INTEGER},"to":{NEIGHBOUR},"rate":1e400}}"#);
    assert_eq!(upcast(&same, &payload).unwrap(), payload);
    let unchanged = steps().unchanged("Paid", 1).build().unwrap();
    assert_eq!(upcast(&unchanged, &payload).unwrap(), payload);
}

#[test]
fn domain_event_keeps_digits_in_types_that_hold_them() {
    #[derive(Debug, Serialize, Deserialize)]
    enum Event {
        Counted { count: i128, rate: Box<RawValue> },
        Noted(Box<RawValue>),
        Paired(u128, Box<RawValue>),
    }
    domain_events! { Event { Counted => "Counted", Noted => "Noted", Paired => "Paired" } }
    for (event_type, payload) in [
        ("Counted", format!(r#"{{"count":-{INTEGER},"rate":1e400}}"#)),
        ("Noted", DECIMAL.to_owned()),
        ("Paired", format!("[{INTEGER},{DECIMAL}]")),
    ] {
        let stored = EncodedEvent { event_type: event_type.into(), ..paid(&payload) };
        let event = Event::decode(&stored).unwrap();
        assert_eq!(event.encode().unwrap().payload(), payload.as_bytes(), "{event:?}");
    }
}

/// A number with up to 45 digits that does not end in a 0.
fn number() -> impl Strategy<Value = String> {
    let text = |pattern: &str| prop::string::string_regex(pattern).unwrap();
    prop_oneof![
        text("-?[1-9][0-9]{0,40}[1-9]"),
        text("-?(0|[1-9][0-9]{0,30})\\.[0-9]{0,40}[1-9]"),
        // Numbers that are close to each other.
        text("1234567890123456789012[0-9]"),
        text("0\\.12345678901234567[0-9]"),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(2_000)
    })]

    #[test]
    fn upcasting_keeps_every_number_or_refuses_it(numbers in prop::collection::vec(number(), 1..6)) {
        let fields = numbers.iter().enumerate();
        let fields: Vec<_> = fields.map(|(at, number)| format!("\"f{at}\":{number}")).collect();
        let payload = format!("{{{}}}", fields.join(","));
        let as_f64 = |number: &String| number.parse::<f64>().unwrap().to_bits();
        let alike = |one: &String, other: &String| one != other && as_f64(one) == as_f64(other);
        match upcast(&adding(), &payload) {
            Ok(new) => {
                let new: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&new).unwrap();
                for (at, number) in numbers.iter().enumerate() {
                    prop_assert_eq!(new[&format!("f{at}")].get(), number);
                }
            }
            Err(UpcastFailed::Number { number, .. }) => {
                let number = as_f64(&number);
                let candidates: Vec<_> = numbers.iter().filter(|it| as_f64(it) == number).collect();
                let two = candidates.iter().any(|it| alike(it, candidates[0]));
                prop_assert!(two, "{} was refused unnecessarily: {}", number, payload);
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}
