//! [`effects`]: all effects of an event or a command, as a tree.

use std::collections::HashMap;
use std::fmt;
use std::ops::{ControlFlow, Deref};

use super::Id;
use super::entry::{Entry, Layout};
use super::text::printable;
use crate::error::Result;
use crate::event_store::EventStore;
use crate::extension::EventStoreExt;
use crate::model::{CAUSATION_ID, RecordedEvent};

/// The depth to which a tree is indented. Deeper lines are shifted to the left, and a number shows
/// their depth.
const DRAWN_DEPTH_MAX: usize = 32;

/// All effects of an event or a command: the events that name its id as their cause, the events
/// that name those, and so on, across streams.
///
/// An effect must follow its cause in the log: an event that names a later one as its cause is not
/// included. Each event is included once.
///
/// # Errors
/// Any error of the store.
///
/// # Cost
/// There is no index: one pass over the whole log. The result is held in memory.
pub fn effects(store: &(impl EventStore + ?Sized), id: impl fmt::Display) -> Result<Effects> {
    let id = id.to_string();
    let root = Id::new(&id);
    let mut found = Found::default();
    store.read_log().for_each(|event| {
        let own = Id::Event(event.id());
        if own == root {
            if found.root.is_none() {
                // Events that named it before it was stored are not its effects.
                found = Found { root: Some(event.to_owned()), ..Found::default() };
            }
            return ControlFlow::Continue(());
        }
        let Some(cause) = event.metadata().get(CAUSATION_ID).map(Id::new) else {
            return ControlFlow::Continue(());
        };
        let place = found.places.get(&cause).copied();
        if cause == root || place.is_some() {
            found.add(own, place, event.to_owned());
        }
        ControlFlow::Continue(())
    })?;
    let event = found.root.take().map(|event| Entry::laid_out(event, Layout::Tree));
    Ok(Effects { id, event, tree: found.into_tree() })
}

/// The events that the pass over the log has found so far.
#[derive(Default)]
struct Found {
    root: Option<RecordedEvent>,
    events: Vec<RecordedEvent>,
    /// The index of each event in `events`.
    places: HashMap<Id, usize>,
    /// The effects of each event, and of the root under `None`.
    children: HashMap<Option<usize>, Vec<usize>>,
}

impl Found {
    fn add(&mut self, id: Id, cause: Option<usize>, event: RecordedEvent) {
        let place = self.events.len();
        self.events.push(event);
        self.places.entry(id).or_insert(place);
        self.children.entry(cause).or_default().push(place);
    }

    /// Lists each event before its effects, with its depth. It uses no recursion, so that a deep
    /// tree cannot overflow the stack.
    fn into_tree(mut self) -> Vec<Effect> {
        let mut events: Vec<_> = self.events.into_iter().map(Some).collect();
        let mut tree = Vec::with_capacity(events.len());
        // A stack with the next event on top.
        let mut pending = Vec::new();
        let mut push = |pending: &mut Vec<_>, cause, depth| {
            let children = self.children.remove(&cause).unwrap_or_default();
            let children = children.into_iter().rev().enumerate();
            pending.extend(children.map(|(at, place)| (place, depth, at == 0)));
        };
        push(&mut pending, None, 1);
        while let Some((place, depth, is_last)) = pending.pop() {
            let event = events.get_mut(place).and_then(Option::take);
            tree.extend(event.map(|event| {
                let entry = Entry::laid_out(event, Layout::Tree);
                Effect { entry, depth, is_last }
            }));
            push(&mut pending, Some(place), depth + 1);
        }
        tree
    }
}

/// One event of [`Effects`]. It dereferences to its [`Entry`] (see [`Deref`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    entry: Entry,
    depth: usize,
    /// Whether it is the last effect of its cause.
    is_last: bool,
}

impl Effect {
    /// Its depth in the tree: 1 for a direct effect, 2 for an effect of that, and so on.
    pub fn depth(&self) -> usize {
        self.depth
    }
}

impl Deref for Effect {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.entry
    }
}

/// All effects of an event or a command. Displays as a tree of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effects {
    id: String,
    event: Option<Entry>,
    tree: Vec<Effect>,
}

impl Effects {
    /// The requested event; `None` if the id names no event, but a command for example.
    pub fn event(&self) -> Option<&Entry> {
        self.event.as_ref()
    }

    /// The effects in the order of the log, except that the effects of an effect directly follow
    /// it. [`Effect::depth`] gives the structure of the tree.
    pub fn iter(&self) -> std::slice::Iter<'_, Effect> {
        self.tree.iter()
    }

    /// Sets how many characters of each payload a line shows;
    /// [`PAYLOAD_CHARS`](super::PAYLOAD_CHARS) by default.
    pub fn payload_chars(mut self, chars: usize) -> Self {
        let entries = self.tree.iter_mut().map(|effect| &mut effect.entry);
        entries.chain(&mut self.event).for_each(|entry| entry.set_payload_chars(chars));
        self
    }
}

impl<'e> IntoIterator for &'e Effects {
    type Item = &'e Effect;
    type IntoIter = std::slice::Iter<'e, Effect>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Effects {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.event {
            Some(event) => write!(out, "{event}")?,
            None => write!(out, "{}, which is no event of this log", printable(&self.id))?,
        }
        // For each level above: whether its vertical line has ended, because no effect follows on
        // it.
        let mut ended = Vec::new();
        for effect in self {
            ended.truncate(effect.depth - 1);
            out.write_str("\n")?;
            let hidden = ended.len().saturating_sub(DRAWN_DEPTH_MAX);
            if hidden > 0 {
                write!(out, "({}) ", effect.depth)?;
            }
            for has_ended in ended.iter().skip(hidden) {
                out.write_str(if *has_ended { "   " } else { "│  " })?;
            }
            let branch = if effect.is_last { "└─ " } else { "├─ " };
            write!(out, "{branch}{}", effect.entry)?;
            ended.push(effect.is_last);
        }
        Ok(())
    }
}
