"""Publishing and subscribing: every QoS both ways, order, size, filters, overlaps."""

from peer import Peer
from suite import PAHO, V31, V311, V5, case

ALL = (V31, V311, V5)


@case("QoS 0/1/2 to every granted QoS, exactly", PAHO, ALL)
def every_quality(context):
    publisher = Peer(context, "publisher")
    subscribers = [Peer(context, f"subscriber{qos}") for qos in (0, 1, 2)]
    for qos, subscriber in enumerate(subscribers):
        granted = subscriber.subscribe(context.topic("#"), qos)
        assert [code.value for code in granted] == [qos], granted
    sent = [(f"{qos}.{number}", qos) for number in range(20) for qos in (0, 1, 2)]
    for payload, qos in sent:
        publisher.publish(context.topic(str(qos)), payload, qos)
    for granted, subscriber in enumerate(subscribers):
        for qos in (0, 1, 2):
            topic = context.topic(str(qos))
            subscriber.expect([p for p, q in sent if q == qos], topic)
            got = {m.qos for m in subscriber.messages if m.topic == topic}
            assert got == {min(qos, granted)}, f"QoS {qos} arrived as {got}"
        assert not any(m.retain or m.dup for m in subscriber.messages)


@case("order per publisher and topic", PAHO)
def order(context):
    subscriber = Peer(context, "subscriber")
    subscriber.subscribe(context.topic("#"), 2)
    publishers = [Peer(context, f"publisher{n}") for n in range(4)]
    for number in range(50):
        for index, publisher in enumerate(publishers):
            for level in ("a", "b"):
                publisher.publish(context.topic(level), f"{index}.{number}", index % 3, wait=False)
    subscriber.wait(lambda: len(subscriber.messages) >= 400, "400 messages", 15)
    for level in ("a", "b"):
        got = subscriber.payloads(context.topic(level))
        for index in range(4):
            mine = [p for p in got if p.startswith(f"{index}.")]
            assert mine == [f"{index}.{n}" for n in range(50)], mine


@case("payload of 1,000,000 bytes", PAHO)
def large(context):
    peer = Peer(context, "peer")
    peer.subscribe(context.topic(), 2)
    payload = bytes(range(250)) * 4000
    for qos in (0, 1, 2):
        peer.publish(context.topic(), payload, qos)
        peer.wait(lambda: len(peer.messages) > qos, f"payload at QoS {qos}")
        assert peer.messages[qos].payload == payload


@case("empty payload, long and non-ASCII topics", PAHO)
def odd_shapes(context):
    peer = Peer(context, "peer")
    shapes = [("ünïcödé", "主题", "🚀"), ("x" * 5000,), ("", "")]
    topics = [context.topic(*levels) for levels in shapes]
    peer.subscribe(context.topic("#"), 1)
    for topic in topics:
        peer.publish(topic, b"", 1)
    peer.expect([""] * 3)
    assert [m.topic for m in peer.messages] == topics


FILTERS = {
    "a/b": {"a/b"},
    "a/+": {"a/b", "a/"},
    "+/b": {"a/b", "/b"},
    "a/#": {"a", "a/", "a/b", "a/b/c"},
    "a/b/#": {"a/b", "a/b/c"},
    "+": {"a"},
    "+/+": {"a/b", "a/", "/b"},
    "a/+/c": {"a/b/c"},
    "+/#": {"a", "a/", "a/b", "a/b/c", "/b", "A/B/C/D"},
    "A/B": set(),
}


@case("wildcards + and #", PAHO)
def wildcards(context):
    publisher = Peer(context, "publisher")
    peers = {}
    for number, pattern in enumerate(FILTERS):
        peers[pattern] = Peer(context, f"subscriber{number}")
        peers[pattern].subscribe(context.topic(pattern), 1)
        peers[pattern].subscribe(context.topic("end"), 1)
    topics = set().union(*FILTERS.values())
    for topic in sorted(topics):
        publisher.publish(context.topic(topic), topic, 1)
    publisher.publish(context.topic("end"), "end", 1)
    for pattern, peer in peers.items():
        peer.wait(lambda peer=peer: "end" in peer.payloads(), "the last message")
        got = set(peer.payloads()) - {"end"}
        assert got == FILTERS[pattern], f"{pattern} got {got}"


@case("$-topics stay out of # and +", PAHO)
def dollar_topics(context):
    peer = Peer(context, "peer")
    first = f"$foreign-{context.name}"
    for pattern in ("#", "+/x", f"+/{context.name}/end"):
        peer.subscribe(pattern, 1)
    watcher = Peer(context, "watcher")
    watcher.subscribe(f"{first}/#", 1)
    watcher.publish(f"{first}/x", "hidden", 1)
    watcher.expect(["hidden"])
    watcher.publish(context.topic("end"), "end", 1)
    peer.wait(lambda: context.topic("end") in [m.topic for m in peer.messages], "the end")
    assert not [m.topic for m in peer.messages if m.topic.startswith("$")]


@case("overlapping subscriptions", PAHO)
def overlap(context):
    peer = Peer(context, "peer")
    identified = {"identifier": 7} if peer.is_v5 else {}
    peer.subscribe(context.topic("a", "+"), 0, **identified)
    identified = {"identifier": 9} if peer.is_v5 else {}
    peer.subscribe(context.topic("a", "b"), 2, **identified)
    peer.publish(context.topic("a", "b"), "once", 2)
    peer.publish(context.topic("a", "b"), "end", 2)
    peer.wait(lambda: ("end", 2) in [(m.payload.decode(), m.qos) for m in peer.messages], "end")
    copies = [m for m in peer.messages if m.payload == b"once"]
    assert sorted(m.qos for m in copies) in ([2], [0, 2]), copies
    if peer.is_v5:
        found = [i for m in copies for i in m.properties.SubscriptionIdentifier]
        assert sorted(found) == [7, 9], found


@case("a second SUBSCRIBE replaces the first", PAHO)
def replace(context):
    peer = Peer(context, "peer")
    peer.subscribe(context.topic(), 2)
    peer.subscribe(context.topic(), 0)
    for payload in ("one", "two"):
        peer.publish(context.topic(), payload, 1)
    peer.expect(["one", "two"])
    assert {m.qos for m in peer.messages} == {0}


@case("UNSUBSCRIBE", PAHO)
def unsubscribe(context):
    peer = Peer(context, "peer")
    peer.subscribe(context.topic("a"), 1)
    peer.subscribe(context.topic("b"), 1)
    peer.publish(context.topic("a"), "before", 1)
    peer.expect(["before"])
    codes = peer.unsubscribe([context.topic("a"), context.topic("none")])
    if peer.is_v5:
        assert [code.value for code in codes] == [0x00, 0x11], codes
    peer.publish(context.topic("a"), "after", 1)
    peer.publish(context.topic("b"), "end", 1)
    peer.expect(["before", "end"])


@case("200 clients, 20 QoS 1 messages each", PAHO, alone=True)
def crowd(context):
    peers = [Peer(context, f"peer{number}") for number in range(200)]
    # The second level spreads the topics over the owners.
    topics = [f"foreign/{context.name}-{number}/own" for number in range(200)]
    for peer, topic in zip(peers, topics):
        peer.subscribe(topic, 1)
    for number in range(20):
        for index, peer in enumerate(peers):
            peer.publish(topics[(index + 1) % 200], f"{index}.{number}", 1, wait=False)
    for index, peer in enumerate(peers):
        peer.expect([f"{(index - 1) % 200}.{number}" for number in range(20)], seconds=20)
