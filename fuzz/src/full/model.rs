//! Mounts the reference of `tests/model`.

#[path = "../../../tests/model/deletions.rs"]
pub(super) mod deletions;
#[path = "../../../tests/model/faults.rs"]
pub(super) mod faults;
#[path = "../../../tests/model/ops.rs"]
pub(super) mod ops;
#[path = "../../../tests/model/reference.rs"]
pub(super) mod reference;
#[path = "../../../tests/model/subject.rs"]
pub(super) mod subject;
#[path = "../../../tests/model/world.rs"]
pub(super) mod world;
