//! The key table: every key of the configuration with its type, default, bounds, unit, whether a
//! change needs a restart, and what it is for.
//!
//! A row reads `key: type = default, bounds, unit, reload;`. Nothing about a key is written
//! anywhere else, except relations between two keys ([`relation`](super::relation)).

mod access;

pub use access::{AccessConfig, AclRule, BanRule, GroupConfig, HttpConfig, JwtConfig};

use super::access::List;
use super::choice::{
    CertificateUser, LateOverflow, LogFormat, LogLevel, Overflow, Profile, ProtocolVersion,
    Redirect, RewriteAction, Route, SendRetained, Sleep, TlsClientCertificate, TlsVersion,
};
use super::cpus::{Cpus, Numbers};
use super::filter::LogFilter;
use super::key::{FREE, Key, Reload, Section, Shape, key_name, power_of_two, section, within};
use super::name::{FileName, GroupLabel, Label, Text, TopicPrefix};
use super::pace::Micros;
use super::read::Scan;
use super::setting::Setting;
use super::topic::RuleFilter;
use crate::access::{ClientPattern, Network};
use crate::index::ShareStrategy;
use crate::topic::Template;
use std::net::{Ipv4Addr, SocketAddr};
use toml::de::DeTable;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Largest number of seconds MQTT can express.
const FOREVER: u64 = u32::MAX as u64;

/// Largest packet MQTT can express: four bytes of remaining length and the fixed header.
const LARGEST_PACKET: u64 = 268_435_455 + 5;

/// Largest number of shards: [`MAX_SHARDS`](crate::base::MAX_SHARDS) as the table's own type.
const MOST_SHARDS: u64 = crate::base::MAX_SHARDS as u64;

section! {
    /// How the broker uses CPUs, io_uring rings and the memory between cores, and how much one
    /// turn of a core's loop may do.
    "runtime", Table => pub struct RuntimeConfig {
        /// The CPUs that carry shards: `"auto"` (every CPU this process may use), `"numa:0"` or
        /// `"numa:0,1"` (those of these NUMA nodes), a list such as `"0,2-5"`, or an array such as
        /// `[0, 2, 3]`.
        cpus: Cpus = Cpus::Auto, FREE, "", Restart;
        /// Whether shards leave the second thread of each core (SMT) alone.
        no_smt: bool = false, FREE, "", Restart;
        /// CPUs that carry no shard, so that interrupts and other work have a place.
        housekeeping: Numbers = Numbers::default(), FREE, "", Restart;
        /// How many shards run; 0 means one for each CPU. With more shards than CPUs they share
        /// CPUs in rotation.
        shards: usize = 0, within(0, MOST_SHARDS), "shards", Restart;
        /// Whether each shard's thread is bound to its CPU.
        pin: bool = true, FREE, "", Restart;
        /// What the loop of each core is tuned for; it decides the next two keys unless they are
        /// set. `"throughput"` handles most messages per CPU second: small input gathers for up to
        /// 2 ms under load. `"balanced"`: for up to 0.1 ms. `"latency"`: never, and an idle core
        /// looks for work for 0.2 ms before it sleeps. `"power"`: as `"throughput"`, but from one
        /// message per millisecond on, so that the core wakes seldom.
        profile: Profile = Profile::Balanced, FREE, "", Restart;
        /// How long a busy core lets small input gather before its next turn: more messages per
        /// system call, each up to that much later. An idle core, or one with few active
        /// connections, never waits (with `profile = "power"` it does).
        gather_us: Micros = Micros::Profile, within(0, 10_000), "µs", Restart;
        /// How long an idle core looks for work before it sleeps; 0 sleeps at once.
        spin_us: Micros = Micros::Profile, within(0, 1_000_000), "µs", Restart;
        /// How an idle core sleeps: blocked in the broker's own ring, or in the executor's reactor.
        sleep: Sleep = Sleep::Ring, FREE, "", Restart;
        /// Entries of each core's submission ring.
        ring_entries: usize = 4096, power_of_two(64, 32_768), "entries", Restart;
        /// Receive buffers that each core lends to the kernel. They take turns, so what they hold
        /// together should fit into the core's cache.
        recv_buffers: usize = 256, power_of_two(16, 32_768), "buffers", Restart;
        /// Size of one receive buffer. What a client sends in a row is handled in pieces of it.
        recv_buffer_bytes: usize = 16_384, within(512, MIB), "bytes", Restart;
        /// Completions that one tick reaps before it goes on.
        tick_completions: usize = 512, within(1, 65_536), "completions", Restart;
        /// Subscribers that one tick serves of one fan-out; the rest waits for the next tick.
        tick_targets: usize = 8192, within(1, MIB), "targets", Restart;
        /// A core without a tick for this long is reported in the log.
        stall_warn_ms: u32 = 1000, within(10, 600_000), "ms", Restart;
        /// A core without a tick for this long ends the process, so that a supervisor can restart
        /// it; 0 means never.
        stall_abort_s: u32 = 10, within(0, 3600), "s", Restart;
        /// Size of one block of messages between two cores.
        block_bytes: usize = 16_384, within(4 * KIB, MIB), "bytes", Restart;
        /// Blocks that a ring between two cores holds.
        ring_blocks: usize = 16, power_of_two(4, 64), "blocks", Restart;
        /// Blocks that a core keeps pooled, in bytes.
        mesh_bytes: usize = 2_097_152, within(64 * KIB, GIB), "bytes", Restart;
        /// Steps of TLS and WebSocket handshakes that a core takes in one turn, beside all else it
        /// does. One takes up to a millisecond.
        handshakes_per_turn: usize = 4, within(1, 1024), "steps", Restart;
        /// Grace that connections get when the broker is told to stop.
        drain_s: u32 = 10, within(0, 3600), "s", Restart;
    }
}

section! {
    /// One place where clients connect. Without any `[[listener]]` the broker listens on
    /// 127.0.0.1:1883 and lets anonymous clients in.
    "listener", Repeated => pub struct ListenerConfig {
        /// The name that logs and counters use.
        name: Label = Label::default(), FREE, "", Restart;
        /// IP address and port; port 0 lets the kernel choose.
        address: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 1883)), FREE, "", Restart;
        /// Path of a Unix socket to listen on instead of an address, from the directory of this
        /// file on. What a broker left there that is gone is replaced; anything else that stands
        /// there is a fault.
        unix_path: FileName = FileName::default(), FREE, "", Restart;
        /// Mode of that socket, best written as `0o660`: who may write to it may connect.
        unix_mode: u32 = 0o660, within(0, 0o777), "mode", Restart;
        /// The shards that accept its connections, counted from 0; empty means all of them. A
        /// session lives where its client id belongs all the same.
        shards: Numbers = Numbers::default(), FREE, "", Restart;
        /// Whether clients without credentials are let in. Left out, it is `true` on a loopback
        /// address; on any other it is `false` where somebody can prove a name (a password file,
        /// `[[auth_jwt]]` or `[[auth_http]]`), and must be written where nobody can.
        allow_anonymous: bool = true, FREE, "", Live;
        /// Most connections of this listener on one core.
        max_connections: usize = 1_000_000, within(1, 16_777_216), "connections", Live;
        /// Connections that the kernel holds until they are accepted.
        backlog: u32 = 4096, within(1, 1_048_576), "connections", Restart;
        /// Whether small packets leave at once (TCP_NODELAY).
        nodelay: bool = true, FREE, "", Restart;
        /// For IPv6 addresses: whether IPv4 clients are kept out (IPV6_V6ONLY).
        ipv6_only: bool = false, FREE, "", Restart;
        /// Kernel buffer of each connection for sending (SO_SNDBUF); 0 leaves it to the kernel.
        send_buffer_bytes: usize = 0, within(0, GIB), "bytes", Restart;
        /// Kernel buffer of each connection for receiving (SO_RCVBUF); 0 leaves it to the kernel.
        recv_buffer_bytes: usize = 0, within(0, GIB), "bytes", Restart;
        /// A connection without a CONNECT after this long is closed.
        connect_deadline_ms: u32 = 10_000, within(100, 600_000), "ms", Live;
        /// Most connections on one core that have not sent their CONNECT yet.
        lobby: usize = 4096, within(1, 1_048_576), "connections", Live;
        /// Oldest protocol version that is served.
        min_version: ProtocolVersion = ProtocolVersion::Old, FREE, "", Live;
        /// Newest protocol version that is served.
        max_version: ProtocolVersion = ProtocolVersion::Five, FREE, "", Live;
        /// Sends every client elsewhere: its CONNECT is refused with this reason, and MQTT 5
        /// clients are told `protocol.server_reference`.
        redirect: Redirect = Redirect::None, FREE, "", Live;
        /// Connections that one core accepts per second; more are closed at once. A second's worth
        /// may come in one go. 0 means no limit.
        connects_per_s: u32 = 0, within(0, FOREVER), "connections/s", Live;
        /// Connections from one IPv4 address or IPv6 /64 that one core takes within a second; an
        /// address with more is closed at once, before TLS, for a second. Behind a proxy it is the
        /// client's own address that counts. 0 means no limit.
        address_connects_per_s: u32 = 0, within(0, FOREVER), "connections/s", Live;
        /// PUBLISH packets that one connection may send per second; a client that is faster is
        /// read no faster. 0 means no limit.
        messages_per_s: u32 = 0, within(0, FOREVER), "messages/s", Live;
        /// PUBLISH packets that may come in one go; 0 means a second's worth.
        messages_burst: u32 = 0, within(0, FOREVER), "messages", Live;
        /// Bytes of packets that one connection may send per second; a client that is faster is
        /// read no faster. 0 means no limit.
        bytes_per_s: u32 = 0, within(0, FOREVER), "bytes/s", Live;
        /// Bytes that may come in one go; 0 means a second's worth.
        bytes_burst: u32 = 0, within(0, FOREVER), "bytes", Live;
        /// Networks that connections may come from; left out, they may come from anywhere. Behind a
        /// proxy it is the client's own address that counts.
        allow_networks: List<Network> = List::default(), FREE, "", Live;
        /// Networks that connections may not come from, whatever `allow_networks` says.
        deny_networks: List<Network> = List::default(), FREE, "", Live;
        /// Balancers that begin each connection with a PROXY header of version 1 or 2. Without it,
        /// or from elsewhere, a connection is closed. Left out, there is no such header.
        proxy_from: List<Network> = List::default(), FREE, "", Restart;
        /// PEM files with the certificates of this server, each with those between it and its root;
        /// they make this a TLS listener. Which one is used decides the name that the client asks
        /// for; the first one serves all others. Names count from the directory of this file.
        tls_certificate: List<Box<str>> = List::default(), FREE, "", Restart;
        /// PEM files with the private keys, in the same order; a key may stand in the file of its
        /// certificate.
        tls_key: List<Box<str>> = List::default(), FREE, "", Restart;
        /// The oldest version of TLS that is spoken.
        tls_min_version: TlsVersion = TlsVersion::Tls12, FREE, "", Restart;
        /// Whether clients show a certificate.
        tls_client_certificate: TlsClientCertificate = TlsClientCertificate::Off, FREE, "", Restart;
        /// PEM file with the authorities whose client certificates are believed.
        tls_client_ca: FileName = FileName::default(), FREE, "", Restart;
        /// Files with revocation lists of client certificates, PEM or DER. With any, each
        /// certificate below a root needs a list of its issuer.
        tls_client_crl: List<Box<str>> = List::default(), FREE, "", Restart;
        /// Age at which the key of session tickets is replaced; all cores share it. 0 means that
        /// sessions are not resumed.
        tls_ticket_rotation_s: u32 = 21_600, within(0, 21_600), "s", Restart;
        /// What of a client's certificate is its proven user name. Of one that a PROXY header
        /// vouches for only the common name is known. Who shows none has to prove itself otherwise.
        certificate_user: CertificateUser = CertificateUser::Off, FREE, "", Restart;
        /// Who checks credentials, in this order: `password` (the password file) and names of
        /// `[[auth_jwt]]` and `[[auth_http]]`. The first that knows the client decides; one that
        /// can't be asked ends the search, and the client is refused. Left out, all of them: first
        /// the password file, then tokens, then requests.
        authentication: List<Box<str>> = List::default(), FREE, "", Live;
        /// Whether clients come by WebSocket; with certificates that is `wss`.
        websocket: bool = false, FREE, "", Restart;
        /// Paths that WebSocket clients may ask for; left out, any.
        websocket_paths: List<Box<str>> = List::default(), FREE, "", Restart;
        /// Origins that browsers may come from, such as `https://app.example`; left out, any.
        websocket_origins: List<Box<str>> = List::default(), FREE, "", Restart;
        /// Proxies whose X-Forwarded-For is believed.
        websocket_proxies: List<Network> = List::default(), FREE, "", Restart;
    }
}

section! {
    /// Which core owns a topic, how messages find their subscribers, and what topics mean beyond
    /// the standard.
    "topics", Table => pub struct TopicsConfig {
        /// Topic levels that decide the owner: topics alike in these levels have one owner.
        depth: usize = 2, within(1, 16), "levels", Restart;
        /// Other depths for single prefixes.
        r#override: Vec<DepthRule> = Vec::new(), FREE, "", Restart;
        /// Prefixes whose topics are owned by a chosen shard.
        pin: Vec<PinRule> = Vec::new(), FREE, "", Restart;
        /// Other ways of routing for single prefixes.
        route: Vec<RouteRule> = Vec::new(), FREE, "", Restart;
        /// How a share group chooses who gets a message: in turn, at random, all to one member, by
        /// the publishing session, by the topic, near the publisher, or the least busy one.
        share_strategy: ShareStrategy = ShareStrategy::RoundRobin, FREE, "", Restart;
        /// Other strategies for single share groups.
        share: Vec<ShareRule> = Vec::new(), FREE, "", Restart;
        /// Rules that change topics before anything else looks at them; the first that fits holds.
        rewrite: Vec<RewriteRule> = Vec::new(), FREE, "", Restart;
        /// Whether messages to `$delayed/<seconds>/<topic>` are held and published later; without
        /// it they are refused.
        delayed: bool = true, FREE, "", Live;
        /// Longest delay that is accepted.
        max_delay_s: u32 = 4_294_967, within(0, FOREVER), "s", Live;
        /// Whether `$exclusive/<filter>` makes a subscription that one session at a time can have;
        /// without it such a SUBSCRIBE is refused.
        exclusive: bool = true, FREE, "", Live;
    }
}

section! {
    /// A depth for all topics under a prefix, such as `{ prefix = "a/b", depth = 3 }`.
    "topics.override", Rule => pub struct DepthRule {
        /// The topics meant: whole literal levels, no wildcards.
        prefix: TopicPrefix = TopicPrefix::default(), FREE, "", Restart;
        /// Topic levels that decide the owner under this prefix.
        depth: usize = 2, within(1, 16), "levels", Restart;
    }
}

section! {
    /// An owner for all topics under a prefix, such as `{ prefix = "a", shard = 0 }`.
    "topics.pin", Rule => pub struct PinRule {
        /// The topics meant: whole literal levels, no wildcards.
        prefix: TopicPrefix = TopicPrefix::default(), FREE, "", Restart;
        /// The owning shard, counted from 0.
        shard: usize = 0, within(0, MOST_SHARDS - 1), "", Restart;
    }
}

section! {
    /// A way of routing for all topics under a prefix, such as
    /// `{ prefix = "v1/devices", mode = "publisher" }`.
    "topics.route", Rule => pub struct RouteRule {
        /// The topics meant: whole literal levels, no wildcards.
        prefix: TopicPrefix = TopicPrefix::default(), FREE, "", Restart;
        /// `"owner"` routes over the owning core and gives all subscribers one order;
        /// `"publisher"` routes from the publisher's core and keeps only each publisher's order.
        mode: Route = Route::Owner, FREE, "", Restart;
    }
}

section! {
    /// A strategy for one share group, such as `{ group = "workers", strategy = "sticky" }`.
    "topics.share", Rule => pub struct ShareRule {
        /// The name of the group, as in `$share/name/filter`.
        group: GroupLabel = GroupLabel::default(), FREE, "", Restart;
        /// How the group chooses.
        strategy: ShareStrategy = ShareStrategy::RoundRobin, FREE, "", Restart;
    }
}

section! {
    /// Another topic for what clients name, such as
    /// `{ action = "all", filter = "x/+/#", to = "y/$1/%c/$2" }`.
    "topics.rewrite", Rule => pub struct RewriteRule {
        /// Whether it is for PUBLISH and wills, for SUBSCRIBE and UNSUBSCRIBE, or for all.
        action: RewriteAction = RewriteAction::All, FREE, "", Restart;
        /// The topics meant; each wildcard captures what it stands for.
        filter: RuleFilter = RuleFilter::default(), FREE, "", Restart;
        /// What they become: `$1` to `$9` are the captures, `%c` is the client id, `%u` the user
        /// name, `$$` and `%%` are the signs themselves.
        to: Template = Template::default(), FREE, "", Restart;
    }
}

section! {
    /// What a session may hold, and what happens when it holds too much.
    "session", Table => pub struct SessionConfig {
        /// Longest session expiry that a client can ask for; 4294967295 means no limit.
        max_expiry_s: u32 = u32::MAX, within(0, FOREVER), "s", Live;
        /// How long a persistent session of an MQTT 3.x client outlives its connection.
        v3_expiry_s: u32 = 86_400, within(0, FOREVER), "s", Live;
        /// QoS 1 and 2 messages that a client may send before the first is acknowledged.
        receive_maximum: u16 = 1024, within(1, 65_535), "messages", Live;
        /// QoS 1 and 2 messages sent to a client before the first is acknowledged; a client's own
        /// receive maximum can only lower it.
        max_inflight: u16 = 1024, within(1, 65_535), "messages", Live;
        /// QoS 1 and 2 messages that wait for one session.
        outbox_messages: usize = 1000, within(1, 16_777_216), "messages", Live;
        /// Bytes of QoS 1 and 2 messages that wait for one session.
        outbox_bytes: usize = 1_048_576, within(KIB, 16 * GIB), "bytes", Live;
        /// What happens to a QoS 1 or 2 message that finds the outbox full.
        overflow: Overflow = Overflow::DropOldest, FREE, "", Live;
        /// QoS 0 messages that wait for a connection whose out buffer is full.
        late_messages: usize = 1024, within(0, 65_536), "messages", Live;
        /// What happens to a QoS 0 message when even those places are taken.
        late_overflow: LateOverflow = LateOverflow::DropNewest, FREE, "", Live;
        /// Longest keep alive; MQTT 5 clients are told, a 3.x client that asks for more gets it.
        max_keep_alive_s: u16 = u16::MAX, within(1, 65_535), "s", Live;
        /// Longest will delay that is honoured.
        max_will_delay_s: u32 = u32::MAX, within(0, FOREVER), "s", Live;
        /// Subscriptions that the broker makes for clients when they connect.
        auto_subscribe: Vec<AutoSubscribeRule> = Vec::new(), FREE, "", Restart;
        /// Clients whose sessions live on a chosen shard; the first rule that fits holds.
        pin: Vec<ClientPinRule> = Vec::new(), FREE, "", Restart;
    }
}

section! {
    /// A home for the sessions of some clients, such as `{ clients = "gateway-*", shard = 0 }`.
    "session.pin", Rule => pub struct ClientPinRule {
        /// The clients meant, by client id.
        clients: ClientPattern = ClientPattern::default(), FREE, "", Restart;
        /// The shard on which their sessions live, counted from 0.
        shard: usize = 0, within(0, MOST_SHARDS - 1), "", Restart;
    }
}

section! {
    /// A subscription that the broker makes for a client after its CONNACK, as if the client had
    /// asked for it. One that the client has already is left as it is.
    "session.auto_subscribe", Repeated => pub struct AutoSubscribeRule {
        /// The filter; it must be written. `%c` is the client id, `%u` the user name.
        filter: Template = Template::default(), FREE, "", Restart;
        /// The clients that it is for, by client id.
        clients: ClientPattern = ClientPattern::default(), FREE, "", Restart;
        /// Highest quality of service of its deliveries.
        qos: u8 = 0, within(0, 2), "", Restart;
        /// Whether the client's own messages are left out.
        no_local: bool = false, FREE, "", Restart;
        /// Whether deliveries keep the RETAIN flag of the publisher.
        retain_as_published: bool = false, FREE, "", Restart;
        /// Whether retained messages are sent.
        retain_handling: SendRetained = SendRetained::Send, FREE, "", Restart;
    }
}

section! {
    /// Which parts of the protocol are offered. What is switched off is announced to MQTT 5 clients
    /// and refused with the reason code of the specification; an MQTT 3.x client's connection is
    /// closed, its subscription answered with 0x80.
    "protocol", Table => pub struct ProtocolConfig {
        /// Highest QoS of messages and wills; subscriptions are granted this at most.
        maximum_qos: u16 = 2, within(0, 2), "", Restart;
        /// Whether messages and wills may be retained.
        retain_available: bool = true, FREE, "", Restart;
        /// Whether filters may have wildcards.
        wildcard_available: bool = true, FREE, "", Restart;
        /// Whether subscriptions may have identifiers.
        subscription_ids_available: bool = true, FREE, "", Restart;
        /// Whether there are shared subscriptions.
        shared_available: bool = true, FREE, "", Restart;
        /// Keep alive that MQTT 5 clients are told to use, whatever they ask for; 0 leaves it to
        /// them.
        server_keep_alive_s: u16 = 0, within(0, 65_535), "s", Restart;
        /// What clients that ask for response information are told to begin response topics with;
        /// empty tells them nothing.
        response_topic_prefix: Text = Text::default(), FREE, "", Restart;
        /// Where clients of a listener with `redirect` are sent, such as `"broker.example:1883"`.
        server_reference: Text = Text::default(), FREE, "", Restart;
        /// Whether a payload that is announced as UTF-8 has to be UTF-8.
        validate_payload_format: bool = false, FREE, "", Restart;
        /// Whether a client id of MQTT 3.1 may have no more than the 23 characters of that
        /// specification.
        short_client_ids: bool = false, FREE, "", Restart;
    }
}

section! {
    /// Ceilings on everything that clients could make grow.
    "limits", Table => pub struct LimitsConfig {
        /// What one core may hold for its clients: stored messages, bytes not yet processed or
        /// sent, topic aliases, and a flat sum for each session and connection. From 80 % on no new
        /// client is let in and QoS 0 messages no longer wait for slow readers; from 95 % on QoS 1
        /// and 2 messages for clients of this core are refused (0x97); at 100 % the client that
        /// holds most is disconnected and what waits for it dropped. 0 means 60 % of the memory
        /// that the process may use, divided by the number of shards.
        memory_bytes: usize = 0, within(0, 1024 * GIB), "bytes", Restart;
        /// Average length of a core's turns from which it is overloaded: no new client is let in
        /// and QoS 0 messages no longer wait for slow readers, for at least a second and until
        /// turns are half as long. 0 means never.
        overload_lag_ms: u32 = 500, within(0, 60_000), "ms", Live;
        /// Largest packet, fixed header included.
        packet_bytes: usize = 1_048_576, within(128, LARGEST_PACKET), "bytes", Live;
        /// Bytes of packets still incomplete, all connections of one core together.
        unfinished_bytes: usize = 67_108_864, within(64 * KIB, 64 * GIB), "bytes", Live;
        /// Received bytes that a connection waiting for room may hold before its reading stops.
        staging_bytes: usize = 65_536, within(4 * KIB, GIB), "bytes", Live;
        /// Encoded bytes waiting on one connection above which messages wait unencoded.
        out_buffer_bytes: usize = 2_097_152, within(4 * KIB, GIB), "bytes", Live;
        /// Room for protocol answers beside those bytes; a connection that needs more is closed.
        answer_bytes: usize = 65_536, within(KIB, GIB), "bytes", Live;
        /// Longest client id.
        client_id_bytes: usize = 1024, within(23, 65_535), "bytes", Live;
        /// Subscriptions of one client.
        subscriptions: usize = 1000, within(1, 16_777_216), "subscriptions", Live;
        /// Most levels of a topic filter.
        filter_levels: usize = 32, within(1, 65_535), "levels", Live;
        /// First level, counted from 1, at which a filter may have a wildcard; a filter with an
        /// earlier one is refused with 0xA2.
        wildcard_min_level: usize = 1, within(1, 65_535), "level", Live;
        /// Whether filters of nothing but wildcards with `#` at the end (`#`, `+/#`) are refused,
        /// with 0x87.
        deny_broad_wildcards: bool = false, FREE, "", Live;
        /// Most levels of a topic.
        topic_levels: usize = 64, within(1, 65_535), "levels", Live;
        /// Retained messages on one core.
        retained_messages: usize = 1_000_000, within(0, 4 * GIB), "messages", Live;
        /// Bytes of retained messages on one core.
        retained_bytes: usize = 1_073_741_824, within(0, 1024 * GIB), "bytes", Live;
        /// Messages of share groups on one core that wait for another member to be chosen.
        redispatch_messages: usize = 10_000, within(0, 16_777_216), "messages", Live;
        /// Delayed messages on one core that are not due yet.
        delayed_messages: usize = 100_000, within(0, 16_777_216), "messages", Live;
        /// Bytes of delayed messages on one core.
        delayed_bytes: usize = 268_435_456, within(0, 1024 * GIB), "bytes", Live;
        /// Topic aliases that a client may set; 0 offers none.
        topic_alias_maximum: u16 = 32, within(0, 65_535), "aliases", Live;
        /// Topic aliases that a client is given for topics it is sent repeatedly, as far as it
        /// accepts them; 0 gives none.
        topic_alias_maximum_out: u16 = 16, within(0, 255), "aliases", Live;
        /// Memory of one core's match cache; 0 switches it off.
        match_cache_bytes: usize = 16_777_216, within(0, 64 * GIB), "bytes", Restart;
        /// Sessions on one core, connected or not.
        sessions: usize = 1_000_000, within(1, 16_777_216), "sessions", Live;
        /// Due wills that one tick publishes.
        wills_per_tick: usize = 256, within(1, MIB), "wills", Live;
        /// Due delayed messages that one tick publishes.
        delayed_per_tick: usize = 256, within(1, MIB), "messages", Live;
        /// Expired sessions and messages that one tick removes.
        expiries_per_tick: usize = 1024, within(1, MIB), "expiries", Live;
    }
}

section! {
    /// What the broker tells of itself under `$SYS/`.
    "sys", Table => pub struct SysConfig {
        /// Time between two rounds of `$SYS` messages; 0 means none.
        interval_s: u32 = 10, within(0, 3600), "s", Restart;
    }
}

section! {
    /// What is logged, and how. SIGHUP makes a running broker read these keys again.
    "log", Table => pub struct LogConfig {
        /// How a line looks: for reading, or one JSON object each.
        format: LogFormat = LogFormat::Text, FREE, "", Live;
        /// How much is logged.
        level: LogLevel = LogLevel::Info, FREE, "", Live;
        /// Other levels for parts of the broker, such as
        /// `"corelane::shard=debug,corelane::net=off"`. A level without a name replaces `level`.
        filter: LogFilter = LogFilter::default(), FREE, "", Live;
        /// Lines of one kind that one second may bring; those above are only counted. 0 means no
        /// limit.
        similar_per_s: u32 = 50, within(0, 1_000_000), "lines", Live;
    }
}

/// `Default` where every key has one.
macro_rules! defaults {
    ($($section:ident),+) => { $(
        impl Default for $section {
            fn default() -> Self {
                Self::standard()
            }
        }
    )+ };
}
defaults!(RuntimeConfig, ListenerConfig, TopicsConfig, SessionConfig, ProtocolConfig, LimitsConfig);
defaults!(SysConfig, LogConfig, AccessConfig, AclRule, BanRule);

/// A section as the reference page shows it.
pub struct SectionRows {
    /// Name of the section.
    pub name: &'static str,
    /// How it appears in the text.
    pub shape: Shape,
    /// What it is about.
    pub doc: &'static str,
    /// Its keys.
    pub keys: Vec<Key>,
}

/// Every section in the order of the reference page.
pub fn sections() -> Vec<SectionRows> {
    fn rows<S: Section>() -> SectionRows {
        SectionRows { name: S::NAME, shape: S::SHAPE, doc: S::DOC, keys: S::keys() }
    }
    vec![
        rows::<RuntimeConfig>(),
        rows::<ListenerConfig>(),
        rows::<AccessConfig>(),
        rows::<JwtConfig>(),
        rows::<HttpConfig>(),
        rows::<GroupConfig>(),
        rows::<BanRule>(),
        rows::<AclRule>(),
        rows::<TopicsConfig>(),
        rows::<DepthRule>(),
        rows::<PinRule>(),
        rows::<RouteRule>(),
        rows::<ShareRule>(),
        rows::<RewriteRule>(),
        rows::<SessionConfig>(),
        rows::<AutoSubscribeRule>(),
        rows::<ClientPinRule>(),
        rows::<ProtocolConfig>(),
        rows::<LimitsConfig>(),
        rows::<SysConfig>(),
        rows::<LogConfig>(),
    ]
}

/// Every key of the configuration.
pub fn all_keys() -> Vec<Key> {
    sections().into_iter().flat_map(|section| section.keys).collect()
}
