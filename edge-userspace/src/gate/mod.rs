//! Room 2: who is admitted, who is told to wait, and the token that proves it.

pub mod command;
pub mod keys;
pub mod replay;
pub mod token;
