//! A kernel broken on purpose.
