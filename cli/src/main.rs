//! The `lampyris` command.
fn main() {}
