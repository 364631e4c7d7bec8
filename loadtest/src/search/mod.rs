//! The search for a plan that is better than the configuration as given.
//!
//! Everything here is pure: figures go in, decisions, texts and pages come out.
//! [`command::tune`](crate::command) starts brokers, measures and writes files.
//!
//! * [`edit`]: a key of the user's file, changed by line;
//! * [`candidate`]: which plans are tried, and which are not and why;
//! * [`goal`]: which figure decides, and which may not get much worse;
//! * [`evidence`]: what paired rounds say about one plan;
//! * [`race`]: who runs next, who is out, when it ends;
//! * [`page`]: what people read.
//!
//! Invariants worth naming:
//! * a plan is compared with the configuration as given alone, within rounds, in random order;
//! * whatever the machine does, a plan that is no better is named the winner with 5 % at most.

pub mod edit;
pub mod candidate;
pub mod goal;
pub mod evidence;
pub mod race;
pub mod page;
