//! Generates random operations.

use proptest::prelude::*;
use proptest::sample::select;

use super::ops::{
    After, AsOf, Ask, Condition, Item, KEYS, Kind, Op, Part, Size, Start, TAGS_LEN, Target,
};
use super::world::{FOLLOWS, STREAMS};

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        3 => Just(Kind::Any),
        1 => Just(Kind::NoStream),
        1 => Just(Kind::Exists),
        4 => Just(Kind::Tip),
        1 => (1..6_u64).prop_map(Kind::At),
    ]
}

fn parts() -> impl Strategy<Value = Part> {
    let sizes = prop_oneof![
        20 => (0..6_usize).prop_map(|count| (count, Size::Small)),
        2 => (1..6_usize).prop_map(|count| (count, Size::Large)),
        1 => (1_020..1_030_usize).prop_map(|count| (count, Size::Many)),
    ];
    (0..STREAMS.len(), kinds(), sizes, 0..1_u8 << (TAGS_LEN + 1))
        .prop_map(|(stream, kind, (count, size), tags)| Part { stream, kind, count, size, tags })
}

/// One or two tags, or none.
fn tags() -> impl Strategy<Value = u8> {
    let tag = || (0..TAGS_LEN).prop_map(|bit| 1 << bit);
    prop_oneof![1 => Just(0), 3 => tag(), 2 => (tag(), tag()).prop_map(|(one, other)| one | other)]
}

fn items() -> impl Strategy<Value = Item> {
    (
        tags(),
        prop_oneof![3 => Just(0), 1 => 1..4_usize],
        prop::option::weighted(0.2, 0..STREAMS.len()),
        prop::option::weighted(0.2, select(vec!["a", "日本", "b"])),
        prop::option::weighted(0.2, select(vec!["a", "a-1", "ä"])),
    )
        .prop_map(|(tags, types, stream, category, prefix)| Item {
            tags,
            types,
            stream,
            category,
            prefix,
        })
}

fn conditions() -> impl Strategy<Value = Vec<Condition>> {
    let after = prop_oneof![
        1 => Just(After::Nothing),
        4 => (0..4_u64).prop_map(After::BelowHead),
        1 => (1..2_000_u64).prop_map(After::At),
    ];
    let items = prop::collection::vec(items().prop_map(|item| item.valid(true)), 0..3);
    let condition = (items, after).prop_map(|(items, after)| Condition { items, after });
    prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(condition, 1..3)]
}

fn asks() -> impl Strategy<Value = Ask> {
    let place = || prop_oneof![8 => 1..60_u64, 2 => 1_000..2_200_u64, 1 => Just(u64::MAX)];
    let start = prop_oneof![
        Just(Start::Beginning),
        place().prop_map(Start::From),
        place().prop_map(Start::After),
    ];
    let as_of = prop_oneof![
        3 => Just(AsOf::Now),
        1 => place().prop_map(AsOf::Position),
        1 => place().prop_map(AsOf::Version),
        1 => (-3..200_i64).prop_map(AsOf::Time),
    ];
    (
        prop::option::weighted(0.7, 0..STREAMS.len()),
        start,
        any::<bool>(),
        prop::option::of(prop_oneof![0..5_u64, 1_000..1_100_u64]),
        0..4_usize,
        prop::option::weighted(0.2, select(vec!["a", "日本", "a b", "b", "none"])),
        prop::option::weighted(0.2, select(vec!["a", "a-1", "ä", "日", ""])),
        as_of,
        prop_oneof![3 => Just(0), 1 => tags()],
        prop::collection::vec(items().prop_map(|item| item.valid(false)), 0..3),
    )
        .prop_map(
            |(stream, start, backward, limit, types, category, prefix, as_of, tags, items)| Ask {
                stream,
                start,
                backward,
                limit,
                types,
                category,
                prefix,
                as_of,
                tags,
                items,
            },
        )
}

fn targets() -> impl Strategy<Value = Target> {
    let stream = || 0..STREAMS.len();
    prop_oneof![
        4 => (stream(), 0..12_u64).prop_map(|(stream, keep)| Target::Truncate { stream, keep }),
        3 => stream().prop_map(|stream| Target::Delete { stream }),
        1 => stream().prop_map(|stream| Target::Tombstone { stream }),
        2 => (any::<u16>(), tags(), any::<bool>()).prop_map(|(at, tags, clears_snapshots)| {
            Target::Redact { at, tags, clears_snapshots }
        }),
    ]
}

fn deletions() -> impl Strategy<Value = Op> {
    let retention = (
        0..STREAMS.len(),
        any::<bool>(),
        prop::option::of(1..9_u64),
        prop::option::weighted(0.3, 1..100_u64),
    );
    prop_oneof![
        9 => targets().prop_map(Op::Delete),
        2 => retention.prop_map(|(stream, of_category, count, age)| Op::Retain {
            stream,
            of_category,
            count,
            age,
        }),
        1 => Just(Op::Scavenge),
    ]
}

/// Sequences of operations, in half of the cases with deletions.
pub(crate) fn sequences() -> impl Strategy<Value = Vec<Op>> {
    let mixed = || prop_oneof![5 => ops(), 1 => deletions()];
    prop_oneof![prop::collection::vec(ops(), 1..60), prop::collection::vec(mixed(), 1..60),]
}

fn ops() -> impl Strategy<Value = Op> {
    let prefixes = select(vec!["", "a", "a-", "a-1", "ä", "日本-1", "b", "zz"]);
    prop_oneof![
        12 => (
            prop::collection::vec(parts(), 1..4),
            prop::option::weighted(0.2, -5..20_i64),
            conditions(),
        )
            .prop_map(|(parts, times, conditions)| Op::Append(parts, times, conditions)),
        4 => (0..4_usize, -1..2_i8).prop_map(|(back, change)| Op::Retry { back, change }),
        5 => (
            prop::collection::vec(parts(), 0..3),
            conditions(),
            0..KEYS,
            prop::bool::weighted(0.1),
        )
            .prop_map(|(parts, conditions, key, other)| Op::Keyed {
                parts,
                conditions,
                key,
                other,
            }),
        12 => asks().prop_map(Op::Read),
        2 => (prefixes, prop::option::of(0..STREAMS.len()))
            .prop_map(|(prefix, after)| Op::List { prefix, after }),
        5 => (0..FOLLOWS, 1..40_usize)
            .prop_map(|(which, deliveries)| Op::Follow { which, deliveries }),
        2 => (-30..60_i64).prop_map(Op::Clock),
        3 => any::<bool>().prop_map(|view| Op::Keep { view }),
        1 => Just(Op::Sync),
        1 => Just(Op::Reopen),
        1 => prop::option::of(any::<u8>()).prop_map(|left| Op::Crash { left }),
        1 => (any::<u16>(), any::<u16>(), 0..8_u8)
            .prop_map(|(file, at, bit)| Op::Damage { file, at, bit }),
    ]
}
