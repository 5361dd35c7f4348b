//! Decisions over tags (G16): the courses of dcb.events, rule by rule and under contention, and
//! what a decision may be combined with.

use std::cell::Cell;
use std::convert::Infallible;
use std::thread;

use annals::prelude::*;
use annals::testing::DecisionScenario;
use annals::{
    CORRELATION_ID, DEFAULT_STREAM, DecisionModel, Decisions, Error, IdempotencyKey,
    InvalidArgument, Query, QueryItem, RequestDigest, UniqueValues,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::courses::CourseEvent::{self, CapacityChanged, CourseDefined, Enrolled, LimitChanged};
use crate::courses::{Course, Enrolment, Office, Refused, Student, check, define, enrol, resize};
use crate::support::random::Random;
use crate::support::stores::Kept;

fn stores() -> [Kept; 2] {
    Kept::both()
}

fn defined(course: &str, capacity: u32) -> CourseEvent {
    CourseDefined { course: course.into(), capacity }
}

fn enrolled(course: &str, student: &str) -> CourseEvent {
    Enrolled { course: course.into(), student: student.into() }
}

fn models(course: &str, student: &str) -> (Course, Student, Enrolment) {
    (Course::new(course), Student::new(student), Enrolment::new(course, student))
}

fn add(store: &impl EventStore, event: &CourseEvent) {
    store.submit(Append::of([event.encode().unwrap()])).unwrap();
}

fn key(scope: &str, request: &str) -> IdempotencyKey {
    IdempotencyKey::new(scope, request, RequestDigest::of(request)).unwrap()
}

fn count(store: &impl EventStore) -> usize {
    store.read_log().into_iter().count()
}

#[test]
fn course_is_defined_once_and_may_change_its_capacity() {
    DecisionScenario::new()
        .when(Course::new("c1"), |course| resize(course, 5))
        .then_error(Refused::NoSuchCourse)
        .and_when(Course::new("c1"), |course| define(course, 5))
        .then([defined("c1", 5)])
        .then_conflicts_with_itself()
        .and_when(Course::new("c1"), |course| define(course, 7))
        .then_error(Refused::Exists)
        .and_when(Course::new("c1"), |course| resize(course, 5))
        .then_nothing()
        .and_when(Course::new("c1"), |course| resize(course, 7))
        .then([CapacityChanged { course: "c1".into(), capacity: 7 }])
        .and_when(Course::new("c2"), |course| define(course, 1))
        .then([defined("c2", 1)]);
}

#[test]
fn capacity_bounds_the_enrolments_of_a_course() {
    DecisionScenario::given([defined("c1", 1), defined("c2", 9), enrolled("c2", "s9")])
        .when(models("c3", "s1"), enrol)
        .then_error(Refused::NoSuchCourse)
        .and_when(models("c1", "s1"), enrol)
        .then([enrolled("c1", "s1")])
        .then_conflicts_with_itself()
        .and_when(models("c1", "s2"), enrol)
        .then_error(Refused::Full { capacity: 1 })
        .and_when(Course::new("c1"), |course| resize(course, 2))
        .then([CapacityChanged { course: "c1".into(), capacity: 2 }])
        .and_when(models("c1", "s2"), enrol)
        .then([enrolled("c1", "s2")]);
}

#[test]
fn limit_bounds_the_courses_of_a_student() {
    let courses = (1..=12).map(|number| defined(&format!("c{number}"), 9));
    let taken = (1..=10).map(|number| enrolled(&format!("c{number}"), "s1"));
    let raised = [LimitChanged { student: "s1".into(), limit: 11 }];
    DecisionScenario::given(courses)
        .and_given(taken)
        .when(models("c11", "s1"), enrol)
        .then_error(Refused::TooMany { limit: 10 })
        .and_when(models("c1", "s1"), enrol)
        .then_error(Refused::Enrolled)
        .and_when(models("c11", "s2"), enrol)
        .then([enrolled("c11", "s2")])
        .and_when(Student::new("s1"), |_| Ok::<_, Infallible>(raised.clone()))
        .then(raised.clone())
        .and_when(models("c11", "s1"), enrol)
        .then([enrolled("c11", "s1")])
        .and_when(models("c12", "s1"), enrol)
        .then_error(Refused::TooMany { limit: 11 });
}

/// Threads enrol, change capacities and change limits, and send most requests twice. The log shows
/// that each rule held at each enrolment.
#[test]
fn rules_hold_under_contention() {
    const THREADS: u64 = 6;
    for kept in stores() {
        let office = Office::new(&kept.events);
        for course in 0..4 {
            office.define(&format!("c{course}"), 3).unwrap();
        }
        thread::scope(|scope| {
            for at in 0..THREADS {
                let office = office.clone();
                scope.spawn(move || {
                    let mut random = Random(at / 2 + 1);
                    for step in 0..150 {
                        let course = format!("c{}", random.below(4));
                        let student = format!("s{}", random.below(12));
                        let number = u32::try_from(random.below(9)).unwrap();
                        let done = match random.below(10) {
                            0 => office.resize(&course, number + 2),
                            1 => office.set_limit(&student, number),
                            _ => office.enrol(&course, &student, &format!("{}-{step}", at / 2)),
                        };
                        if let Err(error) = done {
                            assert!(error.is_rejected(), "{error}");
                        }
                    }
                });
            }
        });
        assert!(check(&kept.events).unwrap() > 10);
        // Two threads sent each request: it is stored once.
        let mut requests: Vec<_> = kept
            .events
            .read_log()
            .types(["StudentEnrolled"])
            .into_iter()
            .map(|event| event.unwrap().metadata().get("request").unwrap().to_owned())
            .collect();
        let enrolments = requests.len();
        requests.sort();
        requests.dedup();
        assert_eq!(requests.len(), enrolments);
    }
}

/// One place, many students: exactly one gets it, whatever the number of retries.
#[test]
fn last_place_is_given_once() {
    for kept in stores() {
        let office = Office::new(&kept.events);
        office.define("c1", 1).unwrap();
        let accepted: usize = thread::scope(|scope| {
            let tasks: Vec<_> = (0..16)
                .map(|number| {
                    let office = office.clone();
                    scope.spawn(move || {
                        office.enrol("c1", &format!("s{number}"), &number.to_string())
                    })
                })
                .collect();
            let results = tasks.into_iter().map(|task| task.join().unwrap());
            results
                .filter(|result| match result {
                    Ok(done) => done.events().len() == 1,
                    Err(error) => {
                        assert_eq!(error.rejected(), Some(&Refused::Full { capacity: 1 }));
                        false
                    }
                })
                .count()
        });
        assert_eq!((accepted, count(&kept.events)), (1, 2));
    }
}

#[test]
fn decision_is_taken_again_if_a_relevant_event_came_first() {
    let limit = |student: &str| LimitChanged { student: student.into(), limit: 1 };
    let capacity = |course: &str| CapacityChanged { course: course.into(), capacity: 9 };
    for kept in stores() {
        let (store, decisions) = (&kept.events, Decisions::new(&kept.events));
        add(store, &defined("c1", 9));
        add(store, &defined("c2", 9));
        // Each enrols another student in c1, while another writer appends an event.
        let others = [
            (enrolled("c2", "x"), 0),
            (limit("y"), 0),
            (enrolled("c1", "x"), 1),
            (capacity("c1"), 1),
            (capacity("c2"), 0),
            (limit("s5"), 1),
        ];
        for (number, (other, retries)) in others.into_iter().enumerate() {
            let (mut other, calls) = (Some(other), Cell::new(0));
            let student = format!("s{number}");
            let builder = decisions.decide(models("c1", &student)).also(|_, append| {
                if let Some(other) = other.take() {
                    add(store, &other);
                }
                Ok(append)
            });
            let done = builder.run(|models| {
                calls.set(calls.get() + 1);
                enrol(models)
            });
            assert_eq!((done.unwrap().retries(), calls.get()), (retries, retries + 1), "{number}");
        }
        check(store).unwrap();

        // What came first may lead to another result.
        add(store, &CapacityChanged { course: "c1".into(), capacity: 8 });
        let builder = decisions.decide(models("c1", "s8")).also(|_, append| {
            add(store, &enrolled("c1", "s9"));
            Ok(append)
        });
        let full = builder.run(enrol).unwrap_err();
        assert_eq!(full.rejected(), Some(&Refused::Full { capacity: 8 }));
    }
}

#[test]
fn conflict_in_each_attempt_ends_the_decision() {
    for kept in stores() {
        let store = &kept.events;
        let decisions = Decisions::new(store).retries(3);
        add(store, &defined("c1", 100));
        let mut number = 0;
        let builder = decisions.decide(models("c1", "s1")).label("enrolment").also(|_, append| {
            number += 1;
            add(store, &enrolled("c1", &format!("other{number}")));
            Ok(append)
        });
        let error = builder.run(enrol).unwrap_err();
        let ExecuteError::Conflict { stream, retries: 3, cause } = error else { panic!("{error}") };
        assert_eq!((stream.as_str(), cause.label()), (DEFAULT_STREAM, Some("enrolment")));
        assert_eq!(number, 4);
        assert!(check(store).unwrap() == 4, "the decision itself is not stored");
    }
}

/// After a conflict only newer events are read.
#[test]
fn decision_continues_where_it_has_read() {
    let inner = MemoryStore::new();
    let store = crate::support::stores::failing_store(&inner);
    for number in 0..100 {
        add(&inner, &enrolled("c1", &format!("s{number}")));
    }
    let mut moved = false;
    let builder = Decisions::new(&store).decide(Course::new("c1")).also(|_, append| {
        if !moved {
            add(&inner, &defined("c1", 1));
            moved = true;
        }
        Ok(append)
    });
    let done = builder.run(|course| {
        assert_eq!(course.enrolled, 100);
        Ok::<_, Infallible>([enrolled("c1", "new")])
    });
    assert_eq!(done.unwrap().retries(), 1);
    // The new event is read once to find its stream and tags, and once for the models.
    assert_eq!(store.decorator().read(), 102);
}

#[test]
fn nothing_is_stored_without_events() {
    for kept in stores() {
        let office = Office::new(&kept.events);
        office.define("c1", 1).unwrap();
        let unchanged = office.resize("c1", 1).unwrap();
        assert!(unchanged.appended().is_none() && unchanged.position().is_none());
        assert!(office.define("c1", 1).unwrap_err().is_rejected());
        assert_eq!(count(&kept.events), 1);
    }
}

#[test]
fn request_sent_twice_has_one_result() {
    for kept in stores() {
        let office = Office::new(&kept.events);
        office.define("c1", 1).unwrap();
        let first = office.enrol("c1", "s1", "1").unwrap();
        let again = office.enrol("c1", "s1", "1").unwrap();
        assert!(!first.is_retry() && again.is_retry());
        assert_eq!(again.events(), first.events());
        assert_eq!(again.position(), first.position());

        // A recorded rejection stays, even if the decision would be accepted by now.
        let full = Refused::Full { capacity: 1 };
        assert_eq!(office.enrol("c1", "s2", "2").unwrap_err().rejected(), Some(&full));
        office.resize("c1", 2).unwrap();
        assert_eq!(office.enrol("c1", "s2", "2").unwrap_err().rejected(), Some(&full));
        assert!(!office.enrol("c1", "s2", "3").unwrap().is_retry());

        // The same key for another request, and for a decision in another stream.
        let other = office.enrol("c1", "s3", "1").unwrap_err();
        assert!(
            matches!(other, ExecuteError::Store(Error::IdempotencyKeyReused { .. })),
            "{other}"
        );
        let decide = |stream: &str| {
            let builder = office.decisions.decide(Course::new("c9")).stream(stream);
            builder.idempotency_key(key("courses", "9")).run(|course| define(course, 1))
        };
        assert!(!decide("course-9").unwrap().is_retry());
        assert!(decide("course-9").unwrap().is_retry());
        let other = decide("course-8").unwrap_err();
        assert!(
            matches!(other, ExecuteError::Store(Error::IdempotencyKeyReused { .. })),
            "{other}"
        );

        // A decision without events is recorded too.
        let nothing = || {
            let builder = office.decisions.decide(Course::new("c1"));
            builder.idempotency_key(key("courses", "0")).run(|course| resize(course, 2))
        };
        assert!(!nothing().unwrap().is_retry());
        office.resize("c1", 3).unwrap();
        let again = nothing().unwrap();
        assert!(again.is_retry() && again.events().is_empty());
    }
}

/// Two calls do the same request at once: both find no result, and one of them stores it.
#[test]
fn request_done_meanwhile_has_one_result() {
    for kept in stores() {
        let store = &kept.events;
        let decisions = Decisions::new(store);
        let builder = || {
            let builder = decisions.decide(Course::new("c1")).recording_rejections();
            builder.idempotency_key(key("courses", "1"))
        };
        let mut first = None;
        let second = builder().also(|_, append| {
            first = Some(builder().run(|course| define(course, 5)).unwrap());
            Ok(append)
        });
        let second = second.run(|course| define(course, 7)).unwrap();
        let first = first.unwrap();
        assert!(!first.is_retry() && second.is_retry());
        assert_eq!((second.events(), count(store)), (first.events(), 1));

        // The other call may reject it, even if this one has nothing to store.
        let other = || decisions.decide(Course::new("c1")).idempotency_key(key("courses", "2"));
        let done = other().recording_rejections().run(|course| {
            let rejected = other().recording_rejections().run(|course| define(course, 1));
            assert!(rejected.unwrap_err().is_rejected());
            resize(course, 5)
        });
        assert_eq!(done.unwrap_err().rejected(), Some(&Refused::Exists));
    }
}

#[test]
fn decision_is_stored_with_its_stream_metadata_and_tags() {
    for kept in stores() {
        let store = &kept.events;
        let builder = Decisions::new(store)
            .decide(Course::new("c1"))
            .stream("course-c1")
            .with_metadata("user", "ada")
            .with_tag("term:2026")
            .correlated_by("work");
        let done = builder.run(|course| define(course, 7)).unwrap();
        let event = store.read_stream("course-c1").first().unwrap().unwrap();
        assert_eq!(event.tags(), ["course:c1", "term:2026"]);
        assert_eq!(event.metadata().get("user"), Some("ada"));
        assert_eq!(event.metadata().get(CORRELATION_ID), Some("work"));
        assert_eq!(done.position(), Some(event.position()));
        let invalid = Decisions::new(store).decide(Course::new("c2")).stream("");
        let error = invalid.run(|course| define(course, 7)).unwrap_err();
        assert!(matches!(error, ExecuteError::Store(Error::InvalidArgument(_))), "{error}");
    }
}

#[test]
fn also_checks_streams_and_claims_values() {
    for kept in stores() {
        let store = &kept.events;
        let emails = UniqueValues::new(store, "email", b"a secret").unwrap();
        let decisions = Decisions::new(store);
        let define = |course: &str, email: &str| {
            let owner = StreamId::new(format!("course-{course}")).unwrap();
            let builder = decisions.decide(Course::new(course)).also(move |_, append| {
                Ok(emails.clone().change_in(append, &owner, None, [email])?)
            });
            builder.run(|course| define(course, 1))
        };
        define.clone()("c1", "ada@example.org").unwrap();
        let taken = define("c2", "ada@example.org").unwrap_err();
        assert!(matches!(taken, ExecuteError::Store(Error::ValueTaken { .. })), "{taken}");
        assert_eq!(count(store), 2);

        // An expectation that will never be met ends the decision after one more attempt.
        let calls = Cell::new(0);
        let builder = decisions.decide(Course::new("c2")).also(|_, append| {
            Ok(append.check("term-2026", ExpectedVersion::StreamExists).label("term"))
        });
        let error = builder.run(|course| {
            calls.set(calls.get() + 1);
            crate::courses::define(course, 1)
        });
        match error.unwrap_err() {
            ExecuteError::Store(error) => assert_eq!(error.label(), Some("term")),
            other => panic!("{other}"),
        }
        assert_eq!(calls.get(), 2);

        // So does a condition that the decision does not depend on.
        let builder = decisions
            .decide(Course::new("c2"))
            .also(|_, append| Ok(append.fail_if(Query::tag("course:c1")).label("other")));
        match builder.run(|course| crate::courses::define(course, 1)).unwrap_err() {
            ExecuteError::Store(error) => assert_eq!(error.label(), Some("other")),
            other => panic!("{other}"),
        }
        let builder = decisions.decide(Course::new("c2"));
        let builder = builder.also(|_, _| Err(ExecuteError::Rejected(Refused::Exists)));
        assert!(builder.run(|course| crate::courses::define(course, 1)).unwrap_err().is_rejected());
        assert_eq!(count(store), 2);
    }
}

/// Counts the events of its tags, of any type that it knows.
#[derive(Debug)]
struct Counted {
    query: Query,
    count: u32,
}

fn counted(query: impl Into<Query>) -> Counted {
    Counted { query: query.into(), count: 0 }
}

impl DecisionModel for Counted {
    type Event = CourseEvent;

    fn query(&self) -> Query {
        self.query.clone()
    }

    fn apply(&mut self, _: CourseEvent) {
        self.count += 1;
    }
}

#[test]
fn each_model_gets_the_events_of_its_own_query() {
    for kept in stores() {
        let store = &kept.events;
        for event in [defined("c1", 5), enrolled("c1", "s1"), enrolled("c2", "s1")] {
            add(store, &event);
        }
        store
            .submit(Append::of([NewEvent::json("Other", &()).unwrap().with_tag("course:c1")]))
            .unwrap();
        let tags = ["course:c1", "course:c2", "course:c3"];
        let courses: Vec<_> = tags.into_iter().map(|tag| counted(Query::tag(tag))).collect();
        let both = QueryItem::new().tag("course:c1").tag("student:s1");
        let models = (courses, counted(Query::tag("student:s1")), (counted(both),));
        let (courses, student, (both,)) = Decisions::new(store).read(models).unwrap();
        let counts: Vec<_> = courses.iter().map(|course| course.count).collect();
        assert_eq!((counts, student.count, both.count), (vec![2, 1, 0], 2, 1));

        let everything = Decisions::new(store).read(counted(Query::Everything)).unwrap();
        assert_eq!(everything.count, 3, "all events of its types");
    }
}

#[test]
fn boundary_without_events_is_refused() {
    let store = MemoryStore::new();
    let decisions = Decisions::new(&store);
    let refused = |error: Error| match error {
        Error::InvalidArgument(invalid) => invalid,
        other => panic!("{other}"),
    };
    let none = decisions.read(Vec::<Counted>::new()).unwrap_err();
    assert_eq!(refused(none), InvalidArgument::EmptyQuery);
    // A typo in the type of one model is not hidden by the other.
    let models = (counted(Query::types(["Enroled"])), counted(Query::tag("course:c1")));
    let error = decisions.decide(models).run(|_| Ok::<_, Infallible>([defined("c1", 1)]));
    match error.unwrap_err() {
        ExecuteError::Store(error) => assert_eq!(refused(error), InvalidArgument::EmptyQuery),
        other => panic!("{other}"),
    }
    assert!(decisions.read(counted(QueryItem::new())).is_err());
    assert_eq!(count(&store), 0);
}

/// The events of an aggregate, of plain appends and of older code count as well.
mod others {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Booked {
        room: u32,
    }
    annals::domain_events! {
        tags |booked| vec![format!("room:{}", booked.room)];
        Booked => "RoomBooked" version 2
    }

    #[derive(Default)]
    struct Booking;

    impl Aggregate for Booking {
        const CATEGORY: &'static str = "booking";
        type Event = Booked;
        type Command = u32;
        type Error = Infallible;

        fn apply(&mut self, _: Booked) {}

        fn handle(&self, room: &u32) -> Result<Vec<Booked>, Infallible> {
            Ok(vec![Booked { room: *room }])
        }
    }

    #[derive(Debug)]
    struct Room {
        bookings: u32,
    }

    impl DecisionModel for Room {
        type Event = Booked;

        fn query(&self) -> Query {
            Query::tag("room:7")
        }

        fn apply(&mut self, _: Booked) {
            self.bookings += 1;
        }
    }

    fn upcasters() -> Upcasters {
        let renamed = |old: Value| Ok(json!({ "room": old["number"] }));
        let builder = Upcasters::builder().reads::<Booked>();
        let builder = builder.renamed("RoomTaken", 1, ("RoomBooked", 1));
        builder.json("RoomBooked", 1, renamed).build().unwrap()
    }

    #[test]
    fn decision_depends_on_aggregates_and_old_events() {
        for kept in stores() {
            let store = &kept.events;
            let old = || {
                let event = NewEvent::json("RoomTaken", &json!({ "number": 7 })).unwrap();
                store.submit(Append::of([event.with_tag("room:7")])).unwrap();
            };
            old();
            let bookings = Repository::<Booking>::new(store);
            bookings.execute("1", &7).unwrap();
            bookings.execute("2", &8).unwrap();
            let decisions = Decisions::new(store).upcasters(upcasters());
            let (mut step, seen) = (0, Cell::new(0));
            let builder = decisions.decide(Room { bookings: 0 }).also(|_, append| {
                step += 1;
                match step {
                    1 => old(),
                    2 => _ = bookings.execute("3", &7).unwrap(),
                    3 => _ = bookings.execute("3", &8).unwrap(),
                    _ => {}
                }
                Ok(append)
            });
            let done = builder.run(|room| {
                seen.set(room.bookings);
                Ok::<_, Infallible>([Booked { room: 7 }])
            });
            assert_eq!((done.unwrap().retries(), seen.get()), (2, 4));
        }
    }
}

#[test]
#[should_panic(expected = "give an event the tags that the query asks for")]
fn scenario_finds_a_missing_tag() {
    DecisionScenario::given([defined("c1", 1)])
        .when(counted(Query::tag("course:c1")), |_| Ok::<_, Infallible>([defined("c2", 1)]))
        .then([defined("c2", 1)])
        .then_conflicts_with_itself();
}

#[cfg(feature = "async")]
#[test]
fn tasks_decide_as_threads_do() {
    use annals::AsyncDecisions;
    use futures_lite::future::block_on;

    for kept in stores() {
        let office = Office::new(&kept.events);
        office.define("c1", 3).unwrap();
        let decisions = AsyncDecisions::new(office.decisions.clone());
        thread::scope(|scope| {
            for at in 0..4 {
                let decisions = decisions.clone();
                scope.spawn(move || {
                    for number in 0..5 {
                        let request = key("enrolments", &format!("{at}-{number}"));
                        let models = models("c1", &format!("s{}", at * 5 + number));
                        let builder = decisions.decide(models).idempotency_key(request);
                        match block_on(builder.recording_rejections().run(enrol)) {
                            Ok(done) => assert_eq!(done.events().len(), 1),
                            Err(error) => assert!(error.is_rejected(), "{error}"),
                        }
                    }
                });
            }
        });
        assert_eq!(check(&kept.events).unwrap(), 3);
        let course = block_on(decisions.read(Course::new("c1"))).unwrap();
        assert_eq!((course.enrolled, course.capacity), (3, Some(3)));
    }
}
