//! Mounts the reference of `tests/model`.

#[path = "../../../tests/model/faults.rs"]
pub(super) mod faults;
#[path = "../../../tests/model/ops.rs"]
pub(super) mod ops;
#[path = "../../../tests/model/reference.rs"]
pub(super) mod reference;
#[path = "../../../tests/model/world.rs"]
pub(super) mod world;
