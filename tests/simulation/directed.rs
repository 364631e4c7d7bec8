//! Directed tests under virtual time.
