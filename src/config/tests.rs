//! Tests of the configuration: every kind of fault with its words, and the reference page.

mod acl;

use super::key::{Bounds, Section};
use super::setting::Setting;
use super::table::{all_keys, sections};
use super::*;

/// The faults of `text`, one line each.
fn faults(text: &str) -> Vec<String> {
    parse(text).expect_err("a fault is expected").iter().map(Fault::to_string).collect()
}

#[test]
fn the_empty_text_is_the_default() {
    assert_eq!(parse(""), Ok(Config::default()));
    assert_eq!(parse("listener = []"), Ok(Config::default()));
    assert!(Config::default().listeners[0].allow_anonymous);
}

#[test]
fn values_arrive_in_their_fields() {
    let text = r#"
        [runtime]
        cpus = "0,2-4"
        shards = 3
        recv_buffers = 0x800
        sleep = "glommio"
        [[listener]]
        name = "lan"
        address = "0.0.0.0:1884"
        allow_anonymous = true
        [[listener]]
        address = "[::1]:1883"
        [topics]
        override = [{ prefix = "a/b", depth = 3 }]
        pin = [{ prefix = "a", shard = 2 }]
        [[topics.route]]
        prefix = "v1/devices"
        mode = "publisher"
        [session]
        max_inflight = 20
        overflow = "disconnect"
    "#;
    let config = parse(text).expect("the text is valid");
    assert_eq!(config.runtime.cpus, Cpus::List(vec![0, 2, 3, 4]));
    assert_eq!((config.runtime.shards, config.runtime.recv_buffers), (3, 2048));
    assert_eq!(config.runtime.sleep, Sleep::Glommio);
    assert_eq!(config.listeners[0].name.as_str(), "lan");
    assert_eq!(config.listeners[1].address, "[::1]:1883".parse().expect("an address"));
    assert!(config.listeners.iter().all(|listener| listener.allow_anonymous));
    assert_eq!(config.topics.r#override[0].prefix.as_str(), "a/b");
    assert_eq!(config.topics.r#override[0].depth, 3);
    assert_eq!(config.topics.pin[0].shard, 2);
    assert_eq!(config.topics.route[0].mode, Route::Publisher);
    assert_eq!(config.session.max_inflight, 20);
    assert_eq!(config.session.overflow, Overflow::Disconnect);
    assert_eq!(config.limits, LimitsConfig::default());
}

#[test]
fn all_faults_come_at_once_in_line_order() {
    let text = "\
[limits]
packet_byte = 5
[session]
max_inflight = 0
receive_maximum = 65536
overflow = \"drop\"
[runtime]
pin = 1
recv_buffers = 1000
recv_buffer_bytes = \"4k\"
";
    assert_eq!(
        faults(text),
        [
            "line 2: limits.packet_byte: no such key; did you mean limits.packet_bytes?",
            "line 4: session.max_inflight: 0 is below the smallest allowed value 1; use 1..=65535",
            "line 5: session.receive_maximum: 65536 is above the largest allowed value 65535; \
             use 1..=65535",
            "line 6: session.overflow: \"drop\" is not one of the words known here; write \
             \"drop_oldest\", \"drop_newest\", \"disconnect\" or \"refuse\"",
            "line 8: runtime.pin: an integer where a boolean belongs; write true or false, without \
             quotes",
            "line 9: runtime.recv_buffers: 1000 is not a power of two; use a power of two in \
             16..=32768, such as 1024",
            "line 10: runtime.recv_buffer_bytes: a string where an integer belongs; write a number \
             such as 16384",
        ]
    );
}

#[test]
fn unknown_keys_point_to_the_nearest_or_to_their_section() {
    assert_eq!(
        faults("[sesion]\n"),
        ["line 1: sesion: no such key; did you mean session?"],
        "a section"
    );
    assert_eq!(
        faults("max_inflight = 3\n"),
        ["line 1: max_inflight: no such key; did you mean session.max_inflight?"]
    );
    assert_eq!(
        faults("[limits]\nmax_inflight = 3\n"),
        ["line 2: limits.max_inflight: no such key; did you mean session.max_inflight?"]
    );
    let listed = faults("[topics]\nzzzzzz = 3\n");
    assert_eq!(
        listed,
        ["line 2: topics.zzzzzz: no such key; known here: depth, override, pin, route, \
          share_strategy, share, rewrite, delayed, max_delay_s, exclusive"]
    );
}

#[test]
fn numbers_too_large_for_any_type_are_out_of_bounds() {
    for digits in ["99999999999999999999999999999999999999999999", "-5", "-9999999999999999999999"]
    {
        let fault = &faults(&format!("[limits]\nsessions = {digits}\n"))[0];
        assert!(fault.ends_with("use 1..=16777216"), "{fault}");
    }
}

#[test]
fn sections_of_the_wrong_shape_are_named() {
    assert_eq!(
        faults("[listener]\nname = \"a\"\n"),
        ["line 1: listener: this is of type table; write [[listener]]"]
    );
    assert_eq!(
        faults("session = 5\n"),
        ["line 1: session: a section is wanted, this is of type integer; write [session]"]
    );
    assert_eq!(
        faults("[topics]\npin = [3]\n"),
        ["line 2: topics.pin[0]: this is of type integer; \
          write an array of { prefix = …, shard = … }"]
    );
}

#[test]
fn other_hosts_need_a_word_about_anonymous_clients() {
    assert_eq!(
        faults("[[listener]]\naddress = \"0.0.0.0:1883\"\n"),
        ["line 2: listener[0].address: 0.0.0.0:1883 can be reached from other hosts; \
          write allow_anonymous = true or false, or listen on 127.0.0.1"]
    );
    let refused = "[[listener]]\naddress = \"[::]:1883\"\nallow_anonymous = false\n";
    assert!(!parse(refused).expect("the word is there").listeners[0].allow_anonymous);
    assert!(parse("[[listener]]\naddress = \"[::ffff:127.0.0.1]:1883\"\n").is_ok());
}

#[test]
fn addresses_are_ip_and_port() {
    for (address, reason) in [
        ("localhost:1883", "names a host"),
        ("127.0.0.1", "has no port"),
        ("::1", "has no port"),
        ("1883", "is not an IP address with a port"),
        ("127.0.0.1:99999", "is not an IP address with a port"),
    ] {
        let fault = &faults(&format!("[[listener]]\naddress = \"{address}\"\n"))[0];
        assert!(fault.contains(reason) && fault.contains("write \"127.0.0.1:1883\""), "{fault}");
    }
}

#[test]
fn the_command_line_obeys_the_same_rule() {
    let open = listener(0, "0.0.0.0:1883", true).expect("it was said");
    assert!(open.allow_anonymous);
    assert!(listener(0, "127.0.0.1:0", false).expect("loopback").allow_anonymous);
    let fault = listener(1, "0.0.0.0:1883", false).expect_err("it was not said").to_string();
    assert_eq!(
        fault,
        "--listen 0.0.0.0:1883: 0.0.0.0:1883 can be reached from other hosts; \
         add --allow-anonymous to let anyone in, or listen on 127.0.0.1"
    );
}

#[test]
fn cpu_lists_name_each_cpu_once() {
    assert_eq!("auto".parse(), Ok(Cpus::Auto));
    assert_eq!("3, 0-1".parse(), Ok(Cpus::List(vec![3, 0, 1])));
    for wrong in ["", "a", "3-1", "0,,1", "1,0-2", "99999"] {
        assert!(wrong.parse::<Cpus>().is_err(), "{wrong}");
    }
    assert!(faults("[runtime]\ncpus = [0, \"1\"]\n")[0].contains("no CPU number"));
    assert!(faults("[runtime]\ncpus = []\n")[0].contains("no CPU is named"));
    assert!(faults("[runtime]\ncpus = 1\n")[0].contains("a list of CPUs belongs"));
}

#[test]
fn prefixes_are_whole_literal_levels() {
    for (prefix, remedy) in [
        ("", "name at least one level"),
        ("a/#", "write the literal levels only"),
        ("+/b", "write the literal levels only"),
        ("a/", "leave out the last /"),
    ] {
        let text = format!("[topics]\npin = [{{ prefix = \"{prefix}\", shard = 0 }}]\n");
        assert!(faults(&text)[0].contains(remedy), "{prefix}");
    }
    let levels: Vec<String> = TopicPrefix::new("/a/b")
        .map(|prefix| prefix.levels().map(str::to_owned).collect())
        .expect("an empty first level is a level");
    assert_eq!(levels, ["", "a", "b"]);
}

#[test]
fn rules_need_every_key() {
    assert_eq!(
        faults("[topics]\nroute = [{ prefix = \"a\" }]\n"),
        ["line 2: topics.route[0]: mode is missing; add mode = …"]
    );
}

#[test]
fn duplicates_name_the_earlier_entry() {
    let text = "\
[[topics.pin]]
prefix = \"a\"
shard = 0
[[topics.pin]]
prefix = \"a\"
shard = 1
[[listener]]
[[listener]]
";
    assert_eq!(
        faults(text),
        [
            "line 5: topics.pin[1].prefix: an earlier entry on line 1 has the prefix \"a\" \
             already; give it another prefix, or leave one entry out",
            "line 8: listener[1].name: an earlier entry on line 7 has the name \"tcp\" already; \
             give it another name, or leave one entry out",
            "line 8: listener[1].address: an earlier entry on line 7 has the address \
             \"127.0.0.1:1883\" already; give it another address, or leave one entry out",
        ]
    );
}

#[test]
fn relations_name_the_key_that_was_written() {
    let small = faults("[limits]\npacket_bytes = 2097152\n");
    assert_eq!(
        small,
        ["line 2: limits.packet_bytes: limits.packet_bytes (2097152) exceeds \
          session.outbox_bytes (1048576): the largest message could never wait for a session; \
          raise session.outbox_bytes or lower limits.packet_bytes"]
    );
    for (text, key) in [
        ("[runtime]\nring_blocks = 64\nblock_bytes = 65536\n", "line 3: runtime.block_bytes"),
        ("[runtime]\nstall_warn_ms = 20000\n", "line 2: runtime.stall_warn_ms"),
        ("[runtime]\nshards = 2\n[topics]\npin = [{ prefix = \"a\", shard = 2 }]\n", "line 4"),
        ("[[listener]]\nmax_connections = 5\n", "line 2: listener[0].lobby"),
        ("[[listener]]\nmin_version = \"5\"\nmax_version = \"3.1\"\n", "line 3: listener[0]"),
        ("[[listener]]\nmessages_burst = 5\n", "line 2: listener[0].messages_burst"),
        ("[[listener]]\nbytes_burst = 5\n", "line 2: listener[0].bytes_burst"),
    ] {
        let fault = &faults(text)[0];
        assert!(fault.starts_with(key), "{fault}");
    }
    assert!(parse("[runtime]\nstall_warn_ms = 20000\nstall_abort_s = 0\n").is_ok());
    for text in [
        "[[listener]]\nmin_version = \"3.1.1\"\nmax_version = \"3.1.1\"\n",
        "[[listener]]\nmessages_burst = 5\nmessages_per_s = 1\n",
        "[protocol]\nserver_reference = \"a:1\"\nmaximum_qos = 0\n",
    ] {
        assert!(parse(text).is_ok(), "{text}");
    }
    assert!(faults("[protocol]\nserver_reference = \"\\u0000\"\n")[0].contains("can't carry"));
}

#[test]
fn a_relation_with_a_faulty_key_is_not_reported() {
    let text = "[limits]\npacket_bytes = 2097152\n[session]\noutbox_bytes = \"2 MiB\"\n";
    assert_eq!(faults(text).len(), 1);
}

#[test]
fn syntax_and_meaning_are_reported_together() {
    let text = "[session]\nmax_inflight = \nreceive_maximum = 0\n[limits\nsessions = 0\n";
    let faults = faults(text);
    assert!(faults[0].starts_with("line 2: not TOML:"), "{faults:?}");
    assert!(faults.iter().any(|fault| fault.starts_with("line 3: session.receive_maximum")));
    assert!(faults.iter().any(|fault| fault.starts_with("line 4: not TOML:")), "{faults:?}");
    assert!(faults.iter().filter(|fault| fault.starts_with("line 2:")).count() == 1);
}

#[test]
fn a_key_written_twice_is_a_fault() {
    let faults = faults("[session]\nmax_inflight = 1\nmax_inflight = 2\n");
    assert!(faults[0].starts_with("line 3: not TOML: duplicate key"), "{faults:?}");
}

#[test]
fn odd_texts_never_panic() {
    let mut prng = crate::base::Prng::new(7);
    let alphabet: Vec<char> = "[]{}=\"',.#\n abrs019-_é\0\\".chars().collect();
    for _ in 0..20_000 {
        let length = prng.below(40);
        let text: String = (0..length).map(|_| alphabet[prng.below(alphabet.len())]).collect();
        let _ = parse(&text);
    }
}

#[test]
fn every_default_lies_within_its_bounds() {
    for key in all_keys() {
        let Some(default) = key.default.as_deref().and_then(|text| text.parse::<u64>().ok()) else {
            continue;
        };
        match key.bounds {
            Bounds::Free => panic!("{} is a number without bounds", key.path()),
            Bounds::Within(small, large) => assert!((small..=large).contains(&default)),
            Bounds::PowerOfTwo(small, large) => {
                assert!((small..=large).contains(&default) && default.is_power_of_two());
                assert!(small.is_power_of_two() && large.is_power_of_two());
            }
        }
    }
}

#[test]
fn every_key_is_documented() {
    for key in all_keys() {
        assert!(key.doc.trim().ends_with('.') && key.doc.len() > 15, "{}", key.path());
        assert!(!key.kind.is_empty(), "{}", key.path());
    }
}

#[test]
fn what_is_shown_reads_back() {
    fn text<S: Section>(section: &S) -> String {
        // Some lists may be left out, but not written without anything in them.
        let left_out =
            |kind: &str, value: &str| value == "[]" && kind.ends_with("not an empty one");
        let pairs = S::keys().into_iter().zip(section.shown());
        let pairs = pairs.filter(|(key, value)| !left_out(&key.kind, value));
        pairs.map(|(key, value)| format!("{} = {value}\n", key.name)).collect()
    }
    let mut config = Config::default();
    config.runtime.cpus = Cpus::List(vec![1, 0]);
    config.topics.pin =
        vec![PinRule { prefix: TopicPrefix::new("a \"b\"").expect("a prefix"), shard: 1 }];
    let written = format!(
        "[runtime]\n{}[[listener]]\n{}[topics]\n{}[session]\n{}[limits]\n{}[sys]\n{}[log]\n{}",
        text(&config.runtime),
        text(&config.listeners[0]),
        text(&config.topics),
        text(&config.session),
        text(&config.limits),
        text(&config.sys),
        text(&config.log)
    );
    assert_eq!(parse(&written), Ok(config));
}

#[test]
fn topic_rules_arrive_in_their_fields() {
    let text = r#"
        [[topics.rewrite]]
        action = "subscribe"
        filter = "x/+/#"
        to = "$2/%c/$1"
        [[session.auto_subscribe]]
        filter = "clients/%c/cmd"
        clients = "sensor-*"
        qos = 2
        retain_handling = "send_if_new"
        [[session.auto_subscribe]]
        filter = "$share/g/jobs/%u"
    "#;
    let config = parse(text).expect("the text is valid");
    let rule = &config.topics.rewrite[0];
    assert_eq!(rule.action, RewriteAction::Subscribe);
    assert_eq!((rule.filter.as_str(), rule.to.as_str()), ("x/+/#", "$2/%c/$1"));
    let [first, second] = &config.session.auto_subscribe[..] else { panic!("two rules") };
    assert_eq!((first.qos, first.retain_handling), (2, SendRetained::SendIfNew));
    assert!(first.clients.matches("sensor-1") && !first.clients.matches("a-sensor-1"));
    assert!(second.clients.matches("anybody") && second.qos == 0);
    let text = explain(&config);
    assert!(text.contains("x/+/# becomes $2/%c/$1 for subscribers"), "{text}");
    assert!(text.contains("clients named sensor-* are subscribed to clients/%c/cmd"), "{text}");
    let shown = config.session.auto_subscribe.show();
    assert_eq!(parse(&format!("[session]\nauto_subscribe = {shown}\n")).map(|c| c.session), {
        Ok(config.session)
    });
}

#[test]
fn faults_of_topic_rules_name_their_line() {
    for (text, fault) in [
        (
            "[[topics.rewrite]]\naction = \"all\"\nfilter = \"x/#/y\"\nto = \"z\"\n",
            "line 3: topics.rewrite[0].filter: \"x/#/y\" is no topic filter",
        ),
        (
            "[[topics.rewrite]]\naction = \"all\"\nfilter = \"x/#\"\nto = \"z/$2\"\n",
            "line 4: topics.rewrite[0].to: $2 is named, and \"x/#\" has 1 wildcards; name a",
        ),
        (
            "[[topics.rewrite]]\naction = \"all\"\nfilter = \"x/#\"\nto = \"z/%d\"\n",
            "line 4: topics.rewrite[0].to: \"z/%d\" can't be filled: a % is followed by neither",
        ),
        (
            "[[topics.rewrite]]\nfilter = \"x\"\nto = \"y\"\n",
            "line 1: topics.rewrite[0]: action is missing; add action = …",
        ),
        (
            "[[session.auto_subscribe]]\nqos = 1\n",
            "line 1: session.auto_subscribe[0]: filter is missing; add filter = …",
        ),
        (
            "[[session.auto_subscribe]]\nfilter = \"a#\"\n",
            "line 2: session.auto_subscribe[0].filter: \"a#\" makes no filter: ",
        ),
        (
            "[[session.auto_subscribe]]\nfilter = \"a/$1\"\n",
            "line 2: session.auto_subscribe[0].filter: \"a/$1\" names a capture, and nothing",
        ),
        (
            "[[session.auto_subscribe]]\nfilter = \"$share/g/a\"\nno_local = true\n",
            "line 3: session.auto_subscribe[0].no_local: \"$share/g/a\" is shared, where MQTT",
        ),
        (
            "[[session.auto_subscribe]]\nfilter = \"a\"\nqos = 3\n",
            "line 3: session.auto_subscribe[0].qos: 3 is above the largest allowed value 2",
        ),
    ] {
        let found = faults(text);
        assert!(found.len() == 1 && found[0].starts_with(fault), "{found:?}");
    }
}

#[test]
fn client_patterns_match_any_run_of_characters() {
    for (pattern, client_id, expected) in [
        ("*", "", true),
        ("*", "a", true),
        ("a", "a", true),
        ("a", "ab", false),
        ("a*", "ab", true),
        ("a*", "ba", false),
        ("*a", "ba", true),
        ("*a", "ab", false),
        ("a*b*c", "a-b-c", true),
        ("a*b*c", "a-c-b", false),
        ("a*a", "a", false),
        ("a**a", "aa", true),
    ] {
        let found = ClientPattern::new(pattern).matches(client_id);
        assert_eq!(found, expected, "{pattern} on {client_id}");
    }
}

#[test]
fn the_explanation_marks_what_differs() {
    let mut config = Config::default();
    assert!(!explain(&config).contains("  * "));
    config.session.max_inflight = 7;
    config.topics.route = vec![RouteRule {
        prefix: TopicPrefix::new("v").expect("a prefix"),
        mode: Route::Publisher,
    }];
    let text = explain(&config);
    assert!(text.contains("  * max_inflight = 7  (default 1024)"), "{text}");
    assert!(text.contains("under v: routed by the publisher's core"), "{text}");
    assert!(text.contains("tcp: 127.0.0.1:1883, anonymous clients are let in"), "{text}");
}

#[test]
fn the_reference_page_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/CONFIG.md");
    if std::env::var_os("CORELANE_BLESS").is_some() {
        std::fs::write(path, reference()).expect("docs/CONFIG.md can be written");
    }
    let page = std::fs::read_to_string(path).unwrap_or_default();
    assert!(page == reference(), "docs/CONFIG.md is stale; run the test with CORELANE_BLESS=1");
    assert!(sections().iter().all(|section| page.contains(section.name)));
}

#[test]
fn places_are_read_and_faults_of_places_named() {
    let text = "\
[runtime]
cpus = \"numa:1,0\"
housekeeping = \"0-1\"
no_smt = true
";
    let config = parse(text).expect("the text is valid");
    assert_eq!(config.runtime.cpus, Cpus::Numa(vec![1, 0]));
    assert_eq!(config.runtime.housekeeping.as_slice(), [0, 1]);
    assert_eq!(line_of(text, "runtime.housekeeping"), Some(3));
    let both = faults("[runtime]\ncpus = [2, 3]\nhousekeeping = [3]\n");
    assert_eq!(both.len(), 1, "{both:?}");
    assert!(both[0].starts_with("line 3: runtime.housekeeping: CPU 3 is to carry a shard"));
    assert!(faults("[runtime]\ncpus = \"numa:x\"\n")[0].contains("names no NUMA nodes"));
    let beyond = faults("[runtime]\nshards = 2\n[[listener]]\nshards = [2]\n");
    assert!(beyond[0].starts_with("line 4: listener[0].shards: there is no shard 2"), "{beyond:?}");
    let beyond =
        faults("[runtime]\nshards = 2\n[session]\npin = [{ clients = \"a*\", shard = 5 }]\n");
    assert!(beyond[0].contains("session.pin[0].shard: there is no shard 5"), "{beyond:?}");
}
