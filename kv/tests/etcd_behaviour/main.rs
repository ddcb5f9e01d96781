//! etcd's documented behaviours (its API guarantees, the v3 API reference, the server's list of errors), each a test named
//! after it.

mod client;
mod history;
mod limits;
mod ranges;
mod transactions;
mod writes;
