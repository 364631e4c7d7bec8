//! Starting and stopping a broker from code.
