//! Tests of the driver over real loopback sockets.
