//! The table bomb needs a table that may grow.

fn main() {
    println!("cargo:rustc-link-arg=--growable-table");
}
