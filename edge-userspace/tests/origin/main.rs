//! The room `origin`, driven through its handler against origins in this process: some behave, some
//! do not.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod bed;
mod bodies;
mod files;
mod forms;
mod pooling;
mod pools;
mod secure;
mod sharing;
mod trouble;
mod upgrades;
