//! The `quorate-node` command.
