//! The MQTT wire format.

pub mod version;
