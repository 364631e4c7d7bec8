//! The configuration: TOML text in, checked values out.
//!
//! Invariants worth naming:
//! * every key stands once, in [`table`]; struct fields, defaults, bounds, docs/CONFIG.md and the
//!   output of `corelane check` come from there;
//! * a [`Config`] that [`parse`] gave is valid: nobody checks it again;
//! * no file is read here; the text is an argument.

pub mod access;
pub mod choice;
mod cpus;
mod difference;
mod doors;
mod explain;
pub mod fault;
mod filter;
pub mod key;
mod moment;
mod name;
mod nearest;
mod pace;
mod parse;
mod providers;
mod read;
mod reference;
mod relation;
pub mod setting;
pub mod table;
mod topic;
#[cfg(test)]
mod tests;

pub use crate::access::ClientPattern;
pub use choice::{
    BodyFormat, CertificateUser, Choice, DeniedPublish, LateOverflow, LogFormat, LogLevel,
    Overflow, Profile, ProtocolVersion, Redirect, RewriteAction, Route, SendRetained, Sleep,
    TlsClientCertificate, TlsVersion, TokenAlgorithm, TokenField,
};
pub use cpus::{Cpus, Numbers};
pub use difference::{Difference, differences, taken_over};
pub use explain::explain;
pub use fault::Fault;
pub use filter::{LogFilter, LogRule};
pub use moment::Moment;
pub use name::{FileName, Label, Text, TopicPrefix, Url};
pub use pace::{Micros, Pace};
pub use parse::{acl, line_of, listener, parse};
pub use reference::reference;
pub use relation::{fixed_bytes, named_shards};
pub use table::{
    AccessConfig, AclRule, AutoSubscribeRule, BanRule, ClientPinRule, DepthRule, GroupConfig,
    HttpConfig, JwtConfig, LimitsConfig, ListenerConfig, LogConfig, PinRule, ProtocolConfig,
    RewriteRule, RouteRule, RuntimeConfig, SessionConfig, ShareRule, SysConfig, TopicsConfig,
};
pub use topic::RuleFilter;

/// Everything that can be configured. Pure value, any core; `Config::default()` is what runs
/// without a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// CPUs, rings and the budgets of a tick.
    pub runtime: RuntimeConfig,
    /// Where clients connect; never empty.
    pub listeners: Vec<ListenerConfig>,
    /// Who can prove a name.
    pub access: AccessConfig,
    /// Who believes tokens.
    pub auth_jwt: Vec<JwtConfig>,
    /// Who asks a web service.
    pub auth_http: Vec<HttpConfig>,
    /// Users that belong together.
    pub group: Vec<GroupConfig>,
    /// Who is kept out.
    pub ban: Vec<BanRule>,
    /// Rules about what clients may do, in order.
    pub acl: Vec<AclRule>,
    /// Ownership and routing of topics.
    pub topics: TopicsConfig,
    /// What a session may hold.
    pub session: SessionConfig,
    /// Which parts of the protocol are offered.
    pub protocol: ProtocolConfig,
    /// Ceilings on everything else.
    pub limits: LimitsConfig,
    /// What the broker tells of itself.
    pub sys: SysConfig,
    /// What is logged.
    pub log: LogConfig,
}

impl ListenerConfig {
    /// Where clients reach it, as people write it.
    pub fn place(&self) -> String {
        match self.unix_path.given() {
            Some(path) => format!("unix:{path}"),
            None => self.address.to_string(),
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            runtime: RuntimeConfig::default(),
            listeners: vec![ListenerConfig::default()],
            access: AccessConfig::default(),
            auth_jwt: Vec::new(),
            auth_http: Vec::new(),
            group: Vec::new(),
            ban: Vec::new(),
            acl: Vec::new(),
            topics: TopicsConfig::default(),
            session: SessionConfig::default(),
            protocol: ProtocolConfig::default(),
            limits: LimitsConfig::default(),
            sys: SysConfig::default(),
            log: LogConfig::default(),
        }
    }
}
