//! Files that are right, and what is said about those that are not.

use super::*;

fn refused(text: &str) -> (usize, String) {
    let error = parse("test.toml", text).expect_err(text);
    assert!(error.to_string().starts_with("test.toml"), "{error}");
    (error.line, error.what)
}

const GROUP: &str = "[[group]]\nname = \"p\"\nrole = \"publish\"\ntopics = [\"a\"]\n";

#[test]
fn every_shipped_scenario_is_valid_and_says_what_it_is() {
    for (name, _) in SHIPPED {
        let scenario = find(name).expect(name);
        assert_eq!(&scenario.name, name);
        assert!(!scenario.about.is_empty());
    }
    assert!(find("s4").is_ok());
    let over = |name| find(name).expect(name).transport;
    let all = ["s4", "S14-tls", "S14-ws", "S14-wss"].map(over);
    assert_eq!(all, [Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss]);
    assert!(find("S99").expect_err("unknown").what.contains(SHIPPED_NAMES));
}

#[test]
fn the_storm_is_valid_and_can_be_calmed() {
    let text = include_str!("../../scenarios/storm-doors.toml");
    let storm = parse("storm-doors.toml", text).expect("valid");
    let strangers = storm.groups.iter().filter(|group| group.expects_refusal);
    assert_eq!(strangers.map(|group| group.count).sum::<usize>(), 10_000);
    let (_, what) = refused(&text.replace("transport = \"tls\"", ""));
    assert!(what.contains("handshakes need `transport`"), "{what}");
}

#[test]
fn the_storm_of_fan_outs_is_valid() {
    let text = include_str!("../../scenarios/storm-crowd.toml");
    let storm = parse("storm-crowd.toml", text).expect("valid");
    assert_eq!(storm.groups.iter().map(|group| group.count).sum::<usize>(), 4028);
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let (line, what) = refused(&format!("seconds = 5\n{GROUP}qoss = 1\n"));
    assert_eq!(line, 6, "{what}");
    assert!(what.contains("qoss") && what.contains("`qos`"), "{what}");
}

#[test]
fn a_value_of_the_wrong_kind_is_named_with_its_line() {
    let (line, what) = refused(&format!("{GROUP}\ncount = \"many\"\n"));
    assert_eq!(line, 6, "{what}");
    assert!(what.contains("count"), "{what}");
}

#[test]
fn values_out_of_range_say_what_to_write() {
    for (key, value, hint) in [
        ("payload", "10", "24 bytes or more"),
        ("qos", "3", "0, 1 or 2"),
        ("rate", "-1", "above 0"),
        ("think_ms", "5\nrate = 10", "rate"),
        ("ramp_s", "5", "`rate`"),
        ("off_ms", "5", "both"),
        ("share", "\"g\"", "subscribes"),
        ("offline_at_s", "1", "offline_s"),
        ("count", "0", "1 or more"),
        ("topics", "[]", "at least one"),
        ("expects_refusal", "true", "idle"),
        ("manner", "\"hello\"", "expects_refusal"),
        ("password", "\"x\"", "`user`"),
    ] {
        let group = GROUP.replace("topics = [\"a\"]\n", "");
        let topics = if key == "topics" { "" } else { "topics = [\"a\"]\n" };
        let (line, what) = refused(&format!("\n{group}{topics}{key} = {value}\n"));
        assert!(what.contains(hint), "{key}: {what}");
        assert!(line >= 2, "{key}: line {line}");
    }
}

#[test]
fn a_fault_in_the_second_group_is_found_there() {
    let second = "[[group]]\nname = \"s\"\nrole = \"subscribe\"\ntopics = [\"a/+b\"]\n";
    let (line, what) = refused(&format!("{GROUP}{second}"));
    assert_eq!(line, 8, "{what}");
    assert!(what.contains("a/+b"), "{what}");
}

#[test]
fn sizes_of_each_form_are_read_and_drawn() {
    let mut prng = corelane::base::Prng::new(1);
    for (text, sizes) in [
        ("100", vec![100]),
        ("{ from = 30, to = 33 }", vec![30, 31, 32, 33]),
        ("{ sizes = [64, 1024], weights = [3, 1] }", vec![64, 1024]),
    ] {
        let scenario = parse("sizes", &format!("{GROUP}payload = {text}\n")).expect(text);
        let mut drawn: Vec<usize> =
            (0..1000).map(|_| scenario.groups[0].payload.draw(&mut prng)).collect();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn, sizes);
    }
}

#[test]
fn rates_scale_together() {
    let text = format!("{GROUP}rate = 10\ncount = 5\n");
    let scenario = parse("rates", &text).expect("valid");
    assert_eq!(scenario.offered(), 50.0);
    assert_eq!(scenario.at_rate(200.0).groups[0].rate, Some(40.0));
    let closed = parse("closed", &format!("{GROUP}count = 4\n")).expect("valid");
    assert_eq!(closed.at_rate(100.0).offered(), 100.0);
}
