//! The `edge` command: arguments only.

fn main() {}
