//! Looking behind the events: causes, effects, read models.

use std::time::Duration;

use crate::desk::Desk;

/// What an event came of, and what a projection made of the events, can be looked at.
#[test]
fn causes_effects_and_read_models_are_shown() {
    let desk = Desk::new();
    let ids = ["01890a5d-ac96-774b-bcce-b302099a8051", "01890a5d-ac96-774b-bcce-b302099a8052"];
    let line = |stream: &str, id: &str, cause: &str| {
        let metadata = format!(r#""metadata":{{"$causation_id":"{cause}"}}"#);
        let place = format!(r#""stream":"{stream}","type":"T","time":"2026-01-01T00:00:00Z""#);
        format!("{{{place},\"data\":{{}},\"id\":\"{id}\",{metadata}}}\n")
    };
    desk.write("in", line("order-1", ids[0], "click-7") + &line("payment-1", ids[1], ids[0]));
    desk.ok(&["import", "s", "in"]);
    let why = desk.ok(&["why", "s", ids[1]]);
    assert!(
        why.contains("because of") && why.contains("order-1") && why.contains("click-7"),
        "{why}"
    );
    assert!(why.contains("Nothing came of it."), "{why}");
    let why = desk.ok(&["why", "s", ids[0], "--json"]);
    assert_eq!(why.lines().count(), 2, "the event and its effect: {why}");
    assert!(desk.fails(2, &["why", "s", "seven"]).contains("not an event id"));

    assert_eq!(desk.ok(&["views", "s"]), "");
    let store = annals::Store::open(desk.path("s")).unwrap();
    let projections = annals::ProjectionManager::new(&store).register(Counted).unwrap();
    projections.start().unwrap();
    let counted = projections.projection("counted").unwrap();
    counted.wait_for(annals::Position::new(2).unwrap(), Duration::from_secs(60)).unwrap();
    drop((projections, store));
    assert_eq!(desk.ok(&["views", "s"]), "       2  counted  has every event\n");
    assert_eq!(desk.ok(&["views", "s", "counted"]), "order-1/1  true\npayment-1/1  true\n");
    let last = desk.json(&["views", "s", "counted", "--backward", "--limit", "1", "--json"]);
    assert_eq!(last, serde_json::json!({ "key": "payment-1/1", "value": true }));
    assert_eq!(desk.ok(&["views", "s", "counted", "--under", "order-1"]), "order-1/1  true\n");
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Anything {}
annals::domain_events! { Anything => "T" }

struct Counted;

impl annals::Projection for Counted {
    type Event = Anything;

    fn name(&self) -> &'static str {
        "counted"
    }

    fn handle(
        &self,
        event: &annals::Recorded<Anything>,
        view: &mut annals::ViewWriter,
    ) -> Result<(), annals::HandlerError> {
        Ok(view.put((event.stream(), event.version()), &true)?)
    }
}
