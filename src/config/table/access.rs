//! The keys about who comes in and what clients may do.

use crate::access::{ClientPattern, Network, Pattern};
use crate::config::access::List;
use crate::config::choice::{
    BodyFormat, DeniedPublish, Effect, RetainFlag, TokenAlgorithm, TokenField, TopicAction,
};
use crate::config::cpus::Numbers;
use crate::config::key::{FREE, Key, Reload, Shape, key_name, section, within};
use crate::config::moment::Moment;
use crate::config::name::{FileName, Label, Text, Url};
use crate::config::read::Scan;
use crate::config::setting::Setting;
use toml::de::DeTable;

use super::FOREVER;

section! {
    /// Who can prove a name by password, and where further rules stand. SIGHUP makes a running
    /// broker read both files again.
    "access", Table => pub struct AccessConfig {
        /// File with the users and their hashed passwords, as `corelane passwd` or mosquitto write
        /// it. A name without `/` in front counts from the directory of this file. Without it, and
        /// without `[[auth_jwt]]` and `[[auth_http]]`, nobody can prove a name, so clients are
        /// anonymous whatever they call themselves.
        password_file: FileName = FileName::default(), FREE, "", Live;
        /// File with more `[[acl]]` rules; they come behind those written here.
        acl_file: FileName = FileName::default(), FREE, "", Live;
        /// What an MQTT 3.x client gets for a PUBLISH that is denied; MQTT 5 has a reason code.
        denied_publish: DeniedPublish = DeniedPublish::Drop, FREE, "", Live;
        /// Wrong passwords from one IPv4 address or IPv6 /64 within the window after which its
        /// connections are closed at once; 0 means no limit. Each core counts for itself. Behind a
        /// router many clients share an address.
        max_failures: u32 = 0, within(0, FOREVER), "failures", Live;
        /// Connections of one client id within the window after which it is refused with 0x8A; 0
        /// means no limit.
        max_connects: u32 = 0, within(0, FOREVER), "connections", Live;
        /// The window of both.
        window_s: u32 = 60, within(1, 86_400), "s", Live;
        /// How long both keep a client out.
        ban_s: u32 = 300, within(1, 31_536_000), "s", Live;
        /// Whether who is refused learns only that (0x87, in MQTT 3.x 5), and not whether the name,
        /// the password, the client id, a ban or the method is the reason. The log has it.
        obscure_refusals: bool = false, FREE, "", Live;
        /// Threads beside the cores that check passwords.
        check_threads: usize = 1, within(1, 64), "threads", Restart;
        /// Passwords that may wait to be checked; more are refused with 0x89.
        check_queue: usize = 1024, within(1, 65_536), "passwords", Restart;
    }
}

section! {
    /// Clients that prove who they are by a signed token (JSON Web Token, RFC 7519). Its key comes
    /// from one of `key_file`, `jwks_file` and `jwks_url`. What is no token, or
    /// signed with a key that is not among them, is left to the next in `listener.authentication`.
    "auth_jwt", Repeated => pub struct JwtConfig {
        /// What `listener.authentication` and logs call it.
        name: Label = Label::named("jwt"), FREE, "", Live;
        /// The algorithms that are believed; they must be written.
        algorithms: List<TokenAlgorithm> = List::default(), FREE, "", Live;
        /// File with the key: PEM of the public key, or the secret itself for HS256 to HS512 (a
        /// line break at its end does not count).
        key_file: FileName = FileName::default(), FREE, "", Live;
        /// File with the keys as a JSON Web Key Set.
        jwks_file: FileName = FileName::default(), FREE, "", Live;
        /// Where the JSON Web Key Set is fetched from. Tokens are refused with 0x88 until it was
        /// fetched once; after that the last one holds while there is no newer one.
        jwks_url: Url = Url::default(), FREE, "", Live;
        /// How often that is done.
        jwks_refresh_s: u32 = 300, within(1, 86_400), "s", Live;
        /// How long that may take.
        timeout_ms: u32 = 5000, within(10, 60_000), "ms", Live;
        /// PEM file with the authorities that the server of an `https` address is believed by.
        ca_file: FileName = FileName::default(), FREE, "", Live;
        /// The field of CONNECT that holds the token.
        token: TokenField = TokenField::Password, FREE, "", Live;
        /// What `iss` must be; empty: anything.
        issuer: Text = Text::default(), FREE, "", Live;
        /// What `aud` must be or contain; empty: anything.
        audience: Text = Text::default(), FREE, "", Live;
        /// How far clocks may differ where `exp` and `nbf` are judged.
        leeway_s: u32 = 30, within(0, 3600), "s", Live;
        /// Whether tokens without `exp` are refused.
        require_expiry: bool = true, FREE, "", Live;
        /// Whether the connection is closed when the token ends.
        close_at_expiry: bool = true, FREE, "", Live;
        /// The claim with the user name. Empty: the user name of the CONNECT is believed to
        /// whoever holds a valid token.
        user_claim: Text = Text::fixed("sub"), FREE, "", Live;
        /// The claim with the groups of the user: a text or a list of texts.
        groups_claim: Text = Text::fixed("groups"), FREE, "", Live;
        /// The claim with the client ids that may be used, with `*` for any characters: a text or
        /// a list of texts. Without it, all.
        clients_claim: Text = Text::fixed("clients"), FREE, "", Live;
        /// The claim with topics that are allowed, an object such as
        /// `{"pub": ["a/%u"], "sub": ["b/#"], "all": []}`. They are asked before `[[acl]]`.
        acl_claim: Text = Text::fixed("acl"), FREE, "", Live;
    }
}

section! {
    /// Clients about whom a web service is asked, once for each CONNECT. See docs/OPERATING.md for
    /// what it is sent and what it may answer.
    "auth_http", Repeated => pub struct HttpConfig {
        /// What `listener.authentication` and logs call it.
        name: Label = Label::named("http"), FREE, "", Live;
        /// Where it is; it must be written. Passwords go there, so elsewhere than on this host it
        /// should be `https`.
        url: Url = Url::default(), FREE, "", Live;
        /// How it is asked.
        format: BodyFormat = BodyFormat::Json, FREE, "", Live;
        /// PEM file with the authorities that the server of an `https` address is believed by.
        ca_file: FileName = FileName::default(), FREE, "", Live;
        /// File with the value of the header Authorization, such as `Bearer …`.
        authorization_file: FileName = FileName::default(), FREE, "", Live;
        /// How long an answer may take; after that the client is refused with 0x88.
        timeout_ms: u32 = 5000, within(10, 60_000), "ms", Live;
        /// Requests under way at a time; each has a thread.
        max_requests: usize = 8, within(1, 256), "requests", Live;
        /// Clients that may wait for their request; more are refused with 0x89.
        queue: usize = 1024, within(1, 65_536), "clients", Live;
        /// How long an answer that lets in is kept; 0 asks every time.
        allow_cache_s: u32 = 60, within(0, 86_400), "s", Live;
        /// How long an answer that refuses is kept; 0 asks every time.
        deny_cache_s: u32 = 10, within(0, 86_400), "s", Live;
        /// Answers that are kept at a time, at most.
        cache_entries: usize = 10_000, within(0, 10_000_000), "answers", Live;
        /// Failures in a row after which nobody is asked for a while; 0 means never.
        max_failures: u32 = 5, within(0, FOREVER), "failures", Live;
        /// How long that is. Then one request tries whether it works again.
        pause_s: u32 = 10, within(1, 3600), "s", Live;
    }
}

section! {
    /// Users that belong together, however they prove their names; besides the groups that the
    /// password file, a token or a web service tells.
    "group", Repeated => pub struct GroupConfig {
        /// What `acl.groups` calls it; it must be written.
        name: Text = Text::default(), FREE, "", Live;
        /// The names of its users; they must be written.
        users: List<Box<str>> = List::default(), FREE, "", Live;
    }
}

section! {
    /// Who is kept out, whatever they can prove: refused with 0x8A (MQTT 3.x: 5). All that is
    /// written must hold, and something must be. Clients that are connected stay until they
    /// connect again.
    "ban", Repeated => pub struct BanRule {
        /// User names that were proven.
        users: List<Box<str>> = List::default(), FREE, "", Live;
        /// Client ids, with `*` for any characters.
        clients: List<ClientPattern> = List::default(), FREE, "", Live;
        /// Networks of the client's address.
        networks: List<Network> = List::default(), FREE, "", Live;
        /// When it ends, such as `2026-12-24T18:00:00Z`; left out, never.
        until: Moment = Moment::default(), FREE, "", Live;
    }
}

section! {
    /// A rule about what clients may do; the first one that applies decides. Without any rule
    /// everything is allowed; with one or more, what none of them decides is denied. Who is meant
    /// is said by `users`, `groups`, `clients`, `listeners`, `networks` and `anonymous`: those that
    /// are written must all hold. Topics are those that remain after `topics.rewrite`, without what
    /// stands before them (`$share/<group>/`, `$exclusive/`, `$delayed/<seconds>/`).
    "acl", Repeated => pub struct AclRule {
        /// Whether the client may. Deny applies to a filter as soon as the two have one topic in
        /// common, allow only where it means all topics of the filter.
        effect: Effect = Effect::Deny, FREE, "", Live;
        /// User names that were proven.
        users: List<Box<str>> = List::default(), FREE, "", Live;
        /// Groups, one of which the user is in.
        groups: List<Box<str>> = List::default(), FREE, "", Live;
        /// Client ids, with `*` for any characters.
        clients: List<ClientPattern> = List::default(), FREE, "", Live;
        /// Names of listeners that the client came by.
        listeners: List<Box<str>> = List::default(), FREE, "", Live;
        /// Networks of the client's address.
        networks: List<Network> = List::default(), FREE, "", Live;
        /// Only clients without a proven name.
        anonymous: bool = false, FREE, "", Live;
        /// Whether it is for PUBLISH and wills, for SUBSCRIBE, or for both.
        action: TopicAction = TopicAction::Both, FREE, "", Live;
        /// The topics meant; they must be written. `%u` is the user name, `%c` the client id, `%g`
        /// each of the groups, `%%` a percent sign. `#` does not mean topics that begin with `$`.
        topics: List<Pattern> = List::default(), FREE, "", Live;
        /// The QoS of the message, or the one asked for; empty means all.
        qos: Numbers = Numbers::default(), FREE, "", Live;
        /// The RETAIN flag of the message; a rule with one is for PUBLISH only.
        retain: RetainFlag = RetainFlag::Any, FREE, "", Live;
    }
}
