//! What the host looks like and which cores the broker should use.

pub mod placement;
