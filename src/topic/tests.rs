//! Vectors for checking and matching, named by statement.
