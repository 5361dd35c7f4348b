//! [`DecisionModel`]: a small state with the query of its events. [`Boundary`]: one or several of
//! them, which are read and decided upon together.

use crate::codec::DomainEvent;
use crate::error::Result;
use crate::event_store::Query;
use crate::model::EventRef;
use crate::upcast::{Decoder, Upcasters};

/// A small state for a decision, and the query of the events that it depends on.
///
/// It answers one question, such as "how many places of this course are taken". A value of it is
/// the state before any event, with its own parameters, such as the id of a course.
/// [`Decisions`](crate::Decisions) rebuilds it from the events that match its query, lets the
/// application decide, and appends the result only if no other such event was appended meanwhile.
/// Several models can be combined into one decision: see [`Boundary`].
///
/// Both methods must be pure: no clock, no I/O, no randomness.
///
/// ```
/// use annals::prelude::*;
/// use annals::{DecisionModel, Decisions, Query};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// enum CourseEvent {
///     Defined { course: String, capacity: u32 },
///     Enrolled { course: String, student: String },
/// }
/// annals::domain_events! {
///     tags |event| match event {
///         CourseEvent::Defined { course, .. } => vec![format!("course:{course}")],
///         CourseEvent::Enrolled { course, student } => {
///             vec![format!("course:{course}"), format!("student:{student}")]
///         }
///     };
///     CourseEvent { Defined => "CourseDefined", Enrolled => "StudentEnrolled" }
/// }
///
/// struct Course { id: String, capacity: u32, enrolled: u32 }
///
/// impl DecisionModel for Course {
///     type Event = CourseEvent;
///     fn query(&self) -> Query {
///         Query::tag(format!("course:{}", self.id))
///     }
///     fn apply(&mut self, event: CourseEvent) {
///         match event {
///             CourseEvent::Defined { capacity, .. } => self.capacity = capacity,
///             CourseEvent::Enrolled { .. } => self.enrolled += 1,
///         }
///     }
/// }
///
/// struct Student { id: String, courses: u32 }
///
/// impl DecisionModel for Student {
///     type Event = CourseEvent;
///     fn query(&self) -> Query {
///         Query::tag(format!("student:{}", self.id))
///     }
///     fn apply(&mut self, _: CourseEvent) {
///         self.courses += 1;
///     }
/// }
///
/// #[derive(Debug, PartialEq, thiserror::Error)]
/// enum Refused {
///     #[error("the course is full")]
///     Full,
///     #[error("the student has too many courses")]
///     TooMany,
/// }
///
/// let store = MemoryStore::new();
/// let defined = CourseEvent::Defined { course: "c1".into(), capacity: 1 };
/// store.append("courses", ExpectedVersion::Any, [defined.encode()?])?;
///
/// let decisions = Decisions::new(&store);
/// let enrol = |student: &str| {
///     let course = Course { id: "c1".into(), capacity: 0, enrolled: 0 };
///     let models = (course, Student { id: student.into(), courses: 0 });
///     decisions.decide(models).run(|(course, student)| {
///         if course.enrolled >= course.capacity {
///             return Err(Refused::Full);
///         }
///         if student.courses >= 10 {
///             return Err(Refused::TooMany);
///         }
///         let (course, student) = (course.id.clone(), student.id.clone());
///         Ok([CourseEvent::Enrolled { course, student }])
///     })
/// };
/// assert_eq!(enrol("s1")?.events().len(), 1);
/// assert_eq!(enrol("s2").unwrap_err().rejected(), Some(&Refused::Full));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait DecisionModel {
    /// The events that it is rebuilt from. Others that match its query are ignored, and do not make
    /// a decision fail.
    type Event: DomainEvent;

    /// Which events it depends on. It is asked for once, before the first event is applied, so it
    /// must not depend on them.
    ///
    /// Name a tag or a stream in each item, so that a store need not index the types or categories
    /// of all events. Only events of [`DecisionModel::Event`] are read; a query that names types
    /// restricts them further.
    fn query(&self) -> Query;

    /// Applies an event to the state. It cannot fail, because the event has already happened.
    fn apply(&mut self, event: Self::Event);
}

/// What a decision depends on: a [`DecisionModel`], a `Vec` of boundaries, or a tuple of up to
/// eight. All of them are read in one pass, and protected by one condition.
///
/// Each event is applied to every model whose query matches. A `Vec` may be empty next to other
/// models, but a decision needs at least one model.
///
/// This trait is sealed: implement [`DecisionModel`].
pub trait Boundary: sealed::Fold {}

impl<B: sealed::Fold> Boundary for B {}

pub(super) mod sealed {
    use super::{EventRef, Member, Result, Upcasters};
    use crate::event_store::Query;

    /// Models that are rebuilt together.
    pub trait Fold {
        /// What is needed to read each of them.
        type Members: Send + Sync + 'static;

        fn members(&self, upcasters: &Upcasters) -> Result<Self::Members>;

        /// Adds the queries of all members.
        fn add_queries(members: &Self::Members, queries: &mut Vec<Query>);

        /// Applies an event to each member whose query matches.
        fn apply_to(&mut self, members: &Self::Members, event: EventRef<'_>) -> Result<()>;
    }

    impl<M: super::DecisionModel<Event: 'static>> Fold for M {
        type Members = Member<M::Event>;

        fn members(&self, upcasters: &Upcasters) -> Result<Member<M::Event>> {
            Member::new(self, upcasters)
        }

        fn add_queries(member: &Member<M::Event>, queries: &mut Vec<Query>) {
            queries.push(member.query.clone());
        }

        fn apply_to(&mut self, member: &Member<M::Event>, event: EventRef<'_>) -> Result<()> {
            if !member.query.matches(&event) {
                return Ok(());
            }
            member.decoder.each(event, |event| self.apply(event))
        }
    }

    impl<B: Fold> Fold for Vec<B> {
        type Members = Vec<B::Members>;

        fn members(&self, upcasters: &Upcasters) -> Result<Vec<B::Members>> {
            self.iter().map(|part| part.members(upcasters)).collect()
        }

        fn add_queries(members: &Vec<B::Members>, queries: &mut Vec<Query>) {
            for member in members {
                B::add_queries(member, queries);
            }
        }

        fn apply_to(&mut self, members: &Vec<B::Members>, event: EventRef<'_>) -> Result<()> {
            let mut parts = self.iter_mut().zip(members);
            parts.try_for_each(|(part, member)| part.apply_to(member, event))
        }
    }

    macro_rules! tuple {
        ($($part:ident $at:tt),+) => {
            impl<$($part: Fold),+> Fold for ($($part,)+) {
                type Members = ($($part::Members,)+);

                fn members(&self, upcasters: &Upcasters) -> Result<Self::Members> {
                    Ok(($(self.$at.members(upcasters)?,)+))
                }

                fn add_queries(members: &Self::Members, queries: &mut Vec<Query>) {
                    $($part::add_queries(&members.$at, queries);)+
                }

                fn apply_to(&mut self, members: &Self::Members, event: EventRef<'_>) -> Result<()> {
                    $(self.$at.apply_to(&members.$at, event)?;)+
                    Ok(())
                }
            }
        };
    }

    tuple!(A 0);
    tuple!(A 0, B 1);
    tuple!(A 0, B 1, C 2);
    tuple!(A 0, B 1, C 2, D 3);
    tuple!(A 0, B 1, C 2, D 3, E 4);
    tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
    tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
    tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
}

/// The events that at least one of these models depends on.
#[cfg(feature = "testing")]
pub(crate) fn query_of<B: Boundary>(models: &B, upcasters: &Upcasters) -> Result<Query> {
    union::<B>(&models.members(upcasters)?)
}

pub(super) fn union<B: sealed::Fold>(members: &B::Members) -> Result<Query> {
    let mut queries = Vec::new();
    B::add_queries(members, &mut queries);
    let query = queries.into_iter().fold(Query::AnyOf(Vec::new()), Query::or);
    query.check()?;
    Ok(query)
}

/// What is needed to read a model.
#[derive(Debug)]
pub struct Member<E> {
    query: Query,
    decoder: Decoder<E>,
}

impl<E: DomainEvent> Member<E> {
    fn new<M: DecisionModel<Event = E>>(model: &M, upcasters: &Upcasters) -> Result<Self> {
        let decoder = Decoder::with(upcasters.clone());
        let asked = model.query();
        asked.check()?;
        let query = asked.restricted_to(&decoder.stored_types());
        query.check()?;
        Ok(Self { query, decoder })
    }
}
