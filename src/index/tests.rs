//! The index against plain models.
