//! [`UniqueValues`]: values that only one owner may have, such as email addresses.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::aggregate::{Aggregate, Decision};
use crate::error::{Error, Result};
use crate::event_store::{Append, EventStore};
use crate::extension::EventStoreExt;
use crate::model::limits::{STREAM_ID_LEN_MAX, check_name};
use crate::model::{ExpectedVersion, InvalidArgument, NewEvent, StreamId};

/// Values that only one owner may have at a time, such as email addresses: claim, change and
/// release them with the events of their owner, all or nothing.
///
/// It holds under concurrency, because each value has a stream of its own, and an append that
/// claims or releases the value expects the version of that stream that was read.
///
/// No value is stored. The id of a value's stream is the name of the set, `-`, and a keyed digest
/// of the value (HMAC-SHA-256, of which 16 bytes are kept). Without the secret, nobody can find out
/// from the store which values are claimed. **Keep the secret**: with another one, no claim is
/// found. Values are compared by their bytes, so bring them into one form first, for example lower
/// case.
///
/// ```
/// use annals::prelude::*;
/// use annals::{Error, UniqueValues};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)]
/// # struct EmailSet { email: String }
/// # annals::domain_events! { EmailSet => "EmailSet" }
/// # #[derive(Default, Clone)]
/// # struct User { email: Option<String> }
/// # impl Aggregate for User {
/// #     const CATEGORY: &'static str = "user";
/// #     type Event = EmailSet;
/// #     type Command = String;
/// #     type Error = std::convert::Infallible;
/// #     fn apply(&mut self, event: EmailSet) { self.email = Some(event.email); }
/// #     fn handle(&self, email: &String) -> Result<Vec<EmailSet>, Self::Error> {
/// #         Ok(vec![EmailSet { email: email.clone() }])
/// #     }
/// # }
/// let store = MemoryStore::new();
/// let users = Repository::<User>::new(&store);
/// let emails = UniqueValues::new(&store, "email", b"a secret of 32 bytes or more ...")?;
/// let set_email = |id: &str, email: &str| {
///     let command = users.command(id).also(|decision| {
///         let (old, new) = (&decision.before().email, &decision.after().email);
///         Ok(emails.change(decision, old.as_deref(), new.as_deref())?)
///     });
///     command.run(&email.to_owned())
/// };
/// set_email("1", "ada@example.org")?;
/// let taken = set_email("2", "ada@example.org").unwrap_err();
/// assert!(taken.to_string().contains("email is taken"), "{taken}");
///
/// // A change releases the old value.
/// set_email("1", "countess@example.org")?;
/// set_email("2", "ada@example.org")?;
/// let owner = emails.owner("ada@example.org")?;
/// assert_eq!(owner.unwrap().as_str(), "user-2");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct UniqueValues {
    store: Arc<dyn EventStore>,
    set: Arc<str>,
    digest: Hmac<Sha256>,
}

/// The longest name of a set, so that the digest fits into a stream id.
const SET_LEN_MAX: usize = STREAM_ID_LEN_MAX - 33;

/// The types of the events of a value's stream.
const CLAIMED: &str = "UniqueValueClaimed";
const RELEASED: &str = "UniqueValueReleased";

/// The payload of both types.
#[derive(Serialize, Deserialize)]
struct Owner {
    owner: StreamId,
}

impl UniqueValues {
    /// The set of values with this name, which is also the category of their streams. Use a random
    /// secret of at least 32 bytes, and keep it outside the store.
    ///
    /// # Errors
    /// [`InvalidArgument`]: the name is empty, too long, contains `-` or a control character, or
    /// begins with `$`; the secret is empty.
    pub fn new(
        store: &(impl EventStore + ?Sized),
        set: &str,
        secret: impl AsRef<[u8]>,
    ) -> Result<Self, InvalidArgument> {
        check_name("the name of a set of unique values", set, SET_LEN_MAX)?;
        if set.contains('-') {
            return Err(InvalidArgument::CategoryWithDash { category: set.to_owned() });
        }
        let empty = InvalidArgument::Empty { what: "the secret of unique values" };
        if secret.as_ref().is_empty() {
            return Err(empty);
        }
        let digest = Hmac::new_from_slice(secret.as_ref()).map_err(|_| empty)?;
        if set.starts_with('$') {
            let name = set.to_owned();
            return Err(InvalidArgument::Reserved {
                what: "the name of a set of unique values",
                name,
            });
        }
        Ok(Self { store: store.handle(), set: set.into(), digest })
    }

    /// Claims and releases values within the append of a command: those that are new and not old
    /// are claimed, those that are old and not new are released.
    ///
    /// Call it in [`CommandBuilder::also`](crate::CommandBuilder::also), once for each set, with
    /// all values of the aggregate before and after the command; an [`Option`] is a list too. The
    /// owner is the aggregate.
    ///
    /// # Errors
    /// [`Error::ValueTaken`]: a new value belongs to another owner. If two callers claim a value at
    /// the same time, the second gets this error too, because `also` is called again.
    /// [`InvalidArgument::UniqueValueTwice`]: the append names the stream of a value already. An
    /// error of reading the stream of a value. The decision is as it was.
    pub fn change<'v, A: Aggregate>(
        &self,
        decision: &mut Decision<'_, A>,
        old: impl IntoIterator<Item = &'v str>,
        new: impl IntoIterator<Item = &'v str>,
    ) -> Result<()> {
        // After an error, the decision is as it was.
        let append = decision.append().clone();
        let changed = self.change_in(append, decision.stream(), old, new)?;
        decision.set_append(changed);
        Ok(())
    }

    /// Like [`UniqueValues::change`], for the append of a [decision](crate::DecisionBuilder::also),
    /// or one that the application makes. It must expect the version at which the old values were
    /// read, or have a condition on the events that they come from. If the append is refused because
    /// of the stream of a value, whose [label](Error::label) is the name of the set, read the owner
    /// again and make a new append.
    ///
    /// # Errors
    /// Those of [`UniqueValues::change`].
    pub fn change_in<'v>(
        &self,
        mut append: Append,
        owner: &StreamId,
        old: impl IntoIterator<Item = &'v str>,
        new: impl IntoIterator<Item = &'v str>,
    ) -> Result<Append> {
        let old: BTreeSet<&str> = old.into_iter().collect();
        let new: BTreeSet<&str> = new.into_iter().collect();
        for value in new.difference(&old) {
            let (stream, expected, found) = self.look_up(&append, value)?;
            append = match found {
                None => append.to(stream, expected, [event(CLAIMED, owner)?]),
                // Still claimed, as long as its stream does not move.
                Some(found) if found == *owner => append.check(stream, expected),
                Some(found) => {
                    return Err(Error::ValueTaken { set: self.set.to_string(), owner: found });
                }
            };
            append = append.label(&*self.set);
        }
        for value in old.difference(&new) {
            let (stream, expected, found) = self.look_up(&append, value)?;
            // A value of another owner was never claimed by this one, or is released already.
            if found.is_some_and(|found| found == *owner) {
                append = append.to(stream, expected, [event(RELEASED, owner)?]).label(&*self.set);
            }
        }
        Ok(append)
    }

    /// The owner of a value; `None` if nobody has claimed it.
    ///
    /// # Errors
    /// An error of reading the stream of the value.
    pub fn owner(&self, value: &str) -> Result<Option<StreamId>> {
        Ok(self.read(&self.stream_of(value))?.1)
    }

    /// The stream of a value.
    pub fn stream_of(&self, value: &str) -> StreamId {
        let mut digest = self.digest.clone();
        // The name takes part, so that the same value has another digest in another set.
        digest.update(self.set.as_bytes());
        digest.update(&[0]);
        digest.update(value.as_bytes());
        let digest = digest.finalize().into_bytes();
        let bytes = digest.first_chunk::<16>().map_or(0, |bytes| u128::from_be_bytes(*bytes));
        StreamId::trusted(&format!("{}-{bytes:032x}", self.set))
    }

    /// The stream of a value that the append does not name yet, with its version and its owner.
    fn look_up(
        &self,
        append: &Append,
        value: &str,
    ) -> Result<(StreamId, ExpectedVersion, Option<StreamId>)> {
        let stream = self.stream_of(value);
        if append.expectations().iter().any(|(named, _)| *named == stream) {
            let set = self.set.to_string();
            return Err(InvalidArgument::UniqueValueTwice { set }.into());
        }
        let (expected, owner) = self.read(&stream)?;
        Ok((stream, expected, owner))
    }

    /// The version of a value's stream, and the owner of the value.
    fn read(&self, stream: &StreamId) -> Result<(ExpectedVersion, Option<StreamId>)> {
        let Some(last) = self.store.read_stream(stream).last()? else {
            // Its events may have been truncated: its version is known all the same.
            return Ok((self.store.stream_version(stream)?.into(), None));
        };
        let owner = match last.event_type().as_str() {
            CLAIMED => Some(last.json::<Owner>()?.owner),
            _ => None,
        };
        Ok((ExpectedVersion::Exact(last.version()), owner))
    }
}

fn event(event_type: &str, owner: &StreamId) -> Result<NewEvent> {
    NewEvent::json(event_type, &Owner { owner: owner.clone() })
}

impl fmt::Debug for UniqueValues {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("UniqueValues").field("set", &self.set).finish_non_exhaustive()
    }
}
