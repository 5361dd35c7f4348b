//! Random commands, saves, lost races and loads of past versions: every repository returns the fold
//! of the stream, whether it is plain, cached or with snapshots.

use annals::prelude::*;
use annals::{Aggregate, Bincode, Repository, SnapshotPolicy, Version};
use proptest::prelude::*;

use crate::support::bank::{
    Account, BankEvent, Command, block, create, deposit, deposited, withdraw, withdrawn,
};
use crate::support::stores::Kept;
use crate::support::version;

#[derive(Debug, Clone)]
enum Step {
    Execute(usize, Command),
    RaiseAndSave(usize, Vec<i64>),
    LoseARace(usize, i64),
    LookBack(usize, u64),
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        1 => Just(create()),
        4 => (-1..100_i64).prop_map(deposit),
        4 => (-1..100_i64).prop_map(withdraw),
        2 => (0..12_usize).prop_map(|count| Command::DepositOnes { count }),
        1 => prop::bool::weighted(0.2).prop_map(|is| if is { block() } else { deposit(1) }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let repository = 0..5_usize;
    prop_oneof![
        6 => (repository.clone(), command()).prop_map(|(by, command)| Step::Execute(by, command)),
        3 => (repository.clone(), prop::collection::vec(1..9_i64, 0..9))
            .prop_map(|(by, amounts)| Step::RaiseAndSave(by, amounts)),
        1 => (repository.clone(), 1..9_i64).prop_map(|(by, amount)| Step::LoseARace(by, amount)),
        2 => (repository, any::<u64>()).prop_map(|(by, at)| Step::LookBack(by, at)),
    ]
}

/// Folds the events directly; every repository must agree with the result.
fn fold(events: &[BankEvent]) -> Account {
    let mut account = Account::default();
    events.iter().cloned().for_each(|event| account.apply(event));
    account
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Plain, cached, with snapshots, or with both: every repository agrees with the fold of the
    /// stream.
    #[test]
    fn every_repository_returns_the_fold_of_the_stream(
        steps in prop::collection::vec(step(), 1..40),
        is_on_disk in prop::bool::weighted(0.1),
    ) {
        let kept = if is_on_disk { Kept::disk() } else { Kept::memory() };
        let plain = Repository::<Account>::new(&kept.events);
        let every = |events| SnapshotPolicy::every(events).keep(2);
        let repositories = [
            plain.clone(),
            plain.clone().cache(2),
            plain.clone().snapshots(&kept.snapshots, every(3)),
            plain.clone().cache(2).snapshots(&kept.snapshots, every(5)),
            plain.clone().snapshots_as::<Bincode>(&kept.snapshots, every(4)),
        ];
        let mut happened: Vec<BankEvent> = Vec::new();
        for step in steps {
            let before = fold(&happened);
            match step {
                Step::Execute(by, command) => {
                    match (repositories[by].execute("1", &command), before.handle(&command)) {
                        (Ok(done), Ok(expected)) => {
                            prop_assert_eq!(done.events(), &expected[..]);
                            happened.extend(expected);
                            prop_assert_eq!(done.state(), &fold(&happened));
                            prop_assert_eq!(done.version(), Version::new(happened.len() as u64));
                        }
                        (Err(error), Err(expected)) => {
                            prop_assert_eq!(error.rejected(), Some(&expected));
                        }
                        (done, expected) => prop_assert!(false, "{done:?}, not {expected:?}"),
                    }
                }
                Step::RaiseAndSave(by, amounts) => {
                    let mut root = repositories[by].load_or_new("1").unwrap();
                    for amount in amounts {
                        root.raise(deposited(amount)).unwrap();
                        happened.push(deposited(amount));
                    }
                    repositories[by].save(&mut root).unwrap();
                    prop_assert_eq!(root.version(), Version::new(happened.len() as u64));
                    prop_assert_eq!(root.into_state(), fold(&happened));
                }
                Step::LoseARace(by, amount) => {
                    let mut late = repositories[by].load_or_new("1").unwrap();
                    late.raise(withdrawn(amount)).unwrap();
                    let faster = [deposited(amount).encode().unwrap()];
                    kept.events.append("account-1", ExpectedVersion::Any, faster).unwrap();
                    happened.push(deposited(amount));
                    prop_assert!(repositories[by].save(&mut late).unwrap_err().is_conflict());
                }
                Step::LookBack(by, at) if !happened.is_empty() => {
                    let count = at % happened.len() as u64 + 1;
                    let then = repositories[by].load_as_of_version("1", version(count)).unwrap();
                    let past = &happened[..usize::try_from(count).unwrap()];
                    prop_assert_eq!(then.state(), &fold(past));
                }
                Step::LookBack(..) => {}
            }
            for repository in &repositories {
                let root = repository.load_or_new("1").unwrap();
                prop_assert_eq!(root.state(), &fold(&happened));
                prop_assert_eq!(root.version(), Version::new(happened.len() as u64));
            }
        }
        for repository in &repositories[..4] {
            let report = repository.check_snapshots("1").unwrap();
            let is_known = |fault: &annals::SnapshotFault| {
                matches!(fault, annals::SnapshotFault::OtherCodec { .. })
            };
            let mut faults = report.snapshots.iter().filter_map(|snapshot| snapshot.fault.as_ref());
            prop_assert!(faults.all(is_known), "{report}");
        }
    }
}
