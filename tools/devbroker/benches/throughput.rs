//! To be written below.
fn main() {}
