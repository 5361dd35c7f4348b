//! Courses and their students, the example of dcb.events: a course takes as many students as its
//! capacity, and a student takes as many courses as their limit. Both may change, and neither
//! belongs to the other, so no stream can enforce both rules.

use std::collections::{BTreeMap, BTreeSet};

use annals::prelude::*;
use annals::{
    Decided, DecisionModel, Decisions, ExecuteError, IdempotencyKey, Query, QueryItem,
    RequestDigest,
};
use serde::{Deserialize, Serialize};

/// How many courses a student may take, unless their limit was changed.
pub(crate) const LIMIT: u32 = 10;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum CourseEvent {
    CourseDefined { course: String, capacity: u32 },
    CapacityChanged { course: String, capacity: u32 },
    LimitChanged { student: String, limit: u32 },
    Enrolled { course: String, student: String },
}
use CourseEvent::{CapacityChanged, CourseDefined, Enrolled, LimitChanged};

annals::domain_events! {
    tags CourseEvent::tags;
    CourseEvent {
        CourseDefined => "CourseDefined",
        CapacityChanged => "CourseCapacityChanged",
        LimitChanged => "StudentLimitChanged",
        Enrolled => "StudentEnrolled",
    }
}

impl CourseEvent {
    /// What an event is about. Tags are readable, so they hold numbers, not names.
    fn tags(&self) -> Vec<String> {
        match self {
            CourseDefined { course, .. } | CapacityChanged { course, .. } => {
                vec![of_course(course)]
            }
            LimitChanged { student, .. } => vec![of_student(student)],
            Enrolled { course, student } => vec![of_course(course), of_student(student)],
        }
    }
}

fn of_course(id: &str) -> String {
    format!("course:{id}")
}

fn of_student(id: &str) -> String {
    format!("student:{id}")
}

/// The places of one course.
#[derive(Debug)]
pub(crate) struct Course {
    id: String,
    /// `None` until the course is defined.
    pub(crate) capacity: Option<u32>,
    pub(crate) enrolled: u32,
}

impl Course {
    pub(crate) fn new(id: &str) -> Self {
        Self { id: id.to_owned(), capacity: None, enrolled: 0 }
    }
}

impl DecisionModel for Course {
    type Event = CourseEvent;

    fn query(&self) -> Query {
        Query::tag(of_course(&self.id))
    }

    fn apply(&mut self, event: CourseEvent) {
        match event {
            CourseDefined { capacity, .. } | CapacityChanged { capacity, .. } => {
                self.capacity = Some(capacity);
            }
            Enrolled { .. } => self.enrolled += 1,
            LimitChanged { .. } => {}
        }
    }
}

/// The courses of one student.
#[derive(Debug)]
pub(crate) struct Student {
    id: String,
    pub(crate) limit: u32,
    pub(crate) courses: u32,
}

impl Student {
    pub(crate) fn new(id: &str) -> Self {
        Self { id: id.to_owned(), limit: LIMIT, courses: 0 }
    }
}

impl DecisionModel for Student {
    type Event = CourseEvent;

    fn query(&self) -> Query {
        Query::tag(of_student(&self.id))
    }

    fn apply(&mut self, event: CourseEvent) {
        match event {
            LimitChanged { limit, .. } => self.limit = limit,
            Enrolled { .. } => self.courses += 1,
            CourseDefined { .. } | CapacityChanged { .. } => {}
        }
    }
}

/// Whether a student has a place in a course.
#[derive(Debug)]
pub(crate) struct Enrolment {
    course: String,
    student: String,
    exists: bool,
}

impl Enrolment {
    pub(crate) fn new(course: &str, student: &str) -> Self {
        Self { course: course.to_owned(), student: student.to_owned(), exists: false }
    }
}

impl DecisionModel for Enrolment {
    type Event = CourseEvent;

    fn query(&self) -> Query {
        QueryItem::new().tag(of_course(&self.course)).tag(of_student(&self.student)).into()
    }

    fn apply(&mut self, event: CourseEvent) {
        self.exists |= matches!(event, Enrolled { .. });
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Refused {
    #[error("there is a course with this id already")]
    Exists,
    #[error("there is no such course")]
    NoSuchCourse,
    #[error("all {capacity} places of the course are taken")]
    Full { capacity: u32 },
    #[error("the student has {limit} courses, and may have no more")]
    TooMany { limit: u32 },
    #[error("the student has a place in this course already")]
    Enrolled,
}

/// Decides whether a course may be defined.
pub(crate) fn define(course: &Course, capacity: u32) -> Result<Vec<CourseEvent>, Refused> {
    match course.capacity {
        Some(_) => Err(Refused::Exists),
        None => Ok(vec![CourseDefined { course: course.id.clone(), capacity }]),
    }
}

/// Decides on another capacity. It may be less than the places that are taken: then there is none
/// for others.
pub(crate) fn resize(course: &Course, capacity: u32) -> Result<Vec<CourseEvent>, Refused> {
    match course.capacity {
        None => Err(Refused::NoSuchCourse),
        Some(current) if current == capacity => Ok(Vec::new()),
        Some(_) => Ok(vec![CapacityChanged { course: course.id.clone(), capacity }]),
    }
}

/// Decides whether a student may enrol in a course.
pub(crate) fn enrol(
    (course, student, enrolment): &(Course, Student, Enrolment),
) -> Result<Vec<CourseEvent>, Refused> {
    let capacity = course.capacity.ok_or(Refused::NoSuchCourse)?;
    if enrolment.exists {
        return Err(Refused::Enrolled);
    }
    if course.enrolled >= capacity {
        return Err(Refused::Full { capacity });
    }
    if student.courses >= student.limit {
        return Err(Refused::TooMany { limit: student.limit });
    }
    Ok(vec![Enrolled { course: course.id.clone(), student: student.id.clone() }])
}

/// The result of a decision about courses.
pub(crate) type Outcome = Result<Decided<CourseEvent>, ExecuteError<Refused>>;

/// The office where students enrol.
#[derive(Debug, Clone)]
pub(crate) struct Office {
    pub(crate) decisions: Decisions,
}

impl Office {
    pub(crate) fn new(store: &(impl EventStore + ?Sized)) -> Self {
        Self { decisions: Decisions::new(store) }
    }

    pub(crate) fn define(&self, course: &str, capacity: u32) -> Outcome {
        self.decisions.decide(Course::new(course)).run(|course| define(course, capacity))
    }

    pub(crate) fn resize(&self, course: &str, capacity: u32) -> Outcome {
        self.decisions.decide(Course::new(course)).run(|course| resize(course, capacity))
    }

    pub(crate) fn set_limit(&self, student: &str, limit: u32) -> Outcome {
        let student = Student::new(student);
        self.decisions.decide(student).run(|student| {
            let changed = LimitChanged { student: student.id.clone(), limit };
            Ok(Some(changed).filter(|_| student.limit != limit))
        })
    }

    /// Enrols a student once, however often the request with this number is sent.
    pub(crate) fn enrol(&self, course: &str, student: &str, request: &str) -> Outcome {
        let digest = RequestDigest::of(format!("{course} {student}"));
        let key =
            IdempotencyKey::new("enrolments", request, digest).map_err(annals::Error::from)?;
        let models = (Course::new(course), Student::new(student), Enrolment::new(course, student));
        self.decisions
            .decide(models)
            .idempotency_key(key)
            .recording_rejections()
            .with_metadata("request", request)
            .run(enrol)
    }
}

/// Checks the rules at each enrolment of the log, without models and queries. Returns how many
/// there are.
pub(crate) fn check(store: &(impl EventStore + ?Sized)) -> annals::Result<usize> {
    let (mut capacities, mut limits) = (BTreeMap::new(), BTreeMap::new());
    let mut enrolments: BTreeSet<(String, String)> = BTreeSet::new();
    let events = annals::Decoder::<CourseEvent>::new();
    let types = events.stored_types();
    for event in events.iter(store.read_log().types(types)) {
        match event?.event {
            CourseDefined { course, capacity } => {
                assert_eq!(capacities.insert(course, capacity), None, "a course is defined once");
            }
            CapacityChanged { course, capacity } => _ = capacities.insert(course, capacity),
            LimitChanged { student, limit } => _ = limits.insert(student, limit),
            Enrolled { course, student } => {
                let capacity = capacities.get(&course).copied().unwrap_or(0);
                let limit = limits.get(&student).copied().unwrap_or(LIMIT);
                let taken = enrolments.iter().filter(|(of, _)| *of == course).count();
                let has = enrolments.iter().filter(|(_, of)| *of == student).count();
                assert!(taken < capacity as usize, "{course}: {taken} of {capacity} are taken");
                assert!(has < limit as usize, "{student}: has {has} of {limit}");
                let pair = (course, student);
                assert!(enrolments.insert(pair.clone()), "{pair:?} is enrolled twice");
            }
        }
    }
    Ok(enrolments.len())
}
