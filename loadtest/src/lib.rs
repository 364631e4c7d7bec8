//! The load generator for MQTT brokers as a library: scenarios in, outcomes out.
//!
//! [`scenario`] is what to do, [`engine`] does it, [`outcome`] is what was found; [`command`] holds
//! the subcommands of `corelane-loadtest`.

pub mod args;
pub mod broker;
pub mod chart;
pub mod command;
pub mod comparison;
pub mod credentials;
pub mod door;
pub mod engine;
pub mod export;
pub mod html;
pub mod layer;
pub mod measure;
pub mod outcome;
pub mod peer;
pub mod plan;
pub mod process;
pub mod replay;
pub mod report;
pub mod require;
pub mod scenario;
pub mod script;
pub mod search;
pub mod traffic;
pub mod truth;
