//! The `quorate-node` command.
fn main() {}
