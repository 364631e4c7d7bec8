//! Load generator for MQTT brokers.

fn main() {}
