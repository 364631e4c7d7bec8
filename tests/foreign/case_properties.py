"""What only MQTT 5 has: properties, options, flow control, shared subscriptions."""

import struct
import time

import wire
from peer import Peer
from suite import PAHO, SOCKET, V311, V5, case
from wire import Wire


@case("properties pass through unaltered, in order", PAHO, (V5,))
def passed_through(context):
    peer = Peer(context, "peer")
    peer.subscribe(context.topic(), 1)
    given = {
        "ContentType": "application/json",
        "ResponseTopic": "answer/here",
        "CorrelationData": bytes(range(256)),
        "PayloadFormatIndicator": 1,
        "UserProperty": [("b", "2"), ("a", "1"), ("b", "1"), ("", "")],
    }
    peer.publish(context.topic(), "text", 1, **given)
    peer.expect(["text"])
    got = peer.messages[0].properties
    assert {name: getattr(got, name) for name in given} == given


@case("subscription identifier", PAHO, (V5,))
def identifier(context):
    peer = Peer(context, "peer")
    peer.subscribe(context.topic("a"), 1, identifier=268_435_455)
    peer.subscribe(context.topic("b"), 1)
    for level in ("a", "b"):
        peer.publish(context.topic(level), level, 1)
    peer.expect(["a", "b"])
    assert peer.messages[0].properties.SubscriptionIdentifier == [268_435_455]
    assert not hasattr(peer.messages[1].properties, "SubscriptionIdentifier")


@case("topic alias inbound", PAHO, (V5,))
def alias(context):
    peer = Peer(context, "peer")
    assert getattr(peer.connack_properties, "TopicAliasMaximum", 0) >= 2, "no aliases offered"
    peer.subscribe(context.topic("#"), 1)
    for topic, number in (("a", 1), ("b", 2), ("", 1), ("", 2), ("c", 1), ("", 1)):
        peer.publish(context.topic(topic) if topic else "", "text", 1, TopicAlias=number)
    peer.expect(["text"] * 6)
    got = [m.topic.rsplit("/", 1)[1] for m in peer.messages]
    assert got == ["a", "b", "a", "b", "c", "c"], got


@case("topic alias outbound", PAHO, (V5,))
def alias_outbound(context):
    peer = Peer(context, "peer", properties={"TopicAliasMaximum": 2})
    peer.subscribe(context.topic("#"), 1)
    names = ["first", "second", "first", "second", "first", "third", "second", "first"]
    for name in names:
        peer.publish(context.topic(name), name, 1)
    peer.expect(names)
    known, short = {}, 0
    for message in peer.messages:
        topic, alias = message.topic, getattr(message.properties, "TopicAlias", None)
        assert alias is None or 1 <= alias <= 2, alias
        if not topic:
            short += 1
        elif alias:
            known[alias] = topic
        assert (topic or known[alias]) == context.topic(message.payload.decode())
    assert short, "no message came under its alias alone"


@case("no-local", PAHO, (V5,))
def no_local(context):
    peer = Peer(context, "peer")
    other = Peer(context, "other")
    peer.subscribe(context.topic(), 1, noLocal=True)
    peer.publish(context.topic(), "own", 1)
    other.publish(context.topic(), "foreign", 1)
    peer.expect(["foreign"])


@case("assigned client id", PAHO, (V5,))
def assigned(context):
    peers = [Peer(context, None) for _ in range(3)]
    names = [peer.connack_properties.AssignedClientIdentifier for peer in peers]
    assert len(set(names)) == 3 and all(names), names


@case("empty client id with clean session", PAHO, (V311,))
def unnamed(context):
    peers = [Peer(context, None) for _ in range(2)]
    peers[0].subscribe(context.topic(), 1)
    peers[1].publish(context.topic(), "text", 1)
    peers[0].expect(["text"])


@case("no matching subscribers is told or passed", PAHO, (V5,))
def no_subscribers(context):
    peer = Peer(context, "peer")
    reason = peer.publish(context.topic("nobody"), "text", 1)
    assert reason.value in (0x00, 0x10), reason


@case("receive maximum 1 and slow acknowledgements", PAHO, (V5,))
def slow(context):
    peer = Peer(context, "peer", manual_ack=True, properties={"ReceiveMaximum": 1})
    peer.subscribe(context.topic(), 2)
    publisher = Peer(context, "publisher")
    for number in range(10):
        publisher.publish(context.topic(), str(number), 1 + number % 2)
    for number in range(10):
        peer.wait(lambda: len(peer.messages) > number, f"message {number}")
        assert len(peer.messages) == number + 1, "more than one at a time"
        peer.client.ack(peer.messages[number].mid, peer.messages[number].qos)
    peer.expect([str(number) for number in range(10)])


@case("receive maximum 1 holds back the second", SOCKET, (V5,))
def held_back(context):
    client = Wire(context, properties=b"\x21\x00\x01")
    client.subscribe(context.topic(), 1)
    publisher = Peer(context, "publisher")
    for payload in ("one", "two"):
        publisher.publish(context.topic(), payload, 1)
    _, packet_id, payload = client.expect_publish()
    assert payload == b"one"
    assert not client.barrier(), "sent beyond the receive maximum"
    client.send(client.answer_packet(wire.PUBACK, packet_id))
    assert client.expect_publish()[2] == b"two"


@case("client's maximum packet size", SOCKET, (V5,))
def packet_size(context):
    client = Wire(context, properties=b"\x27" + struct.pack("!I", 200))
    client.subscribe(context.topic(), 1)
    publisher = Peer(context, "publisher")
    publisher.publish(context.topic(), "x" * 300, 1)
    publisher.publish(context.topic(), "fits", 1)
    assert client.expect_publish()[2] == b"fits"


@case("$share: each message to one member", PAHO)
def shared(context):
    members = [Peer(context, f"member{number}") for number in range(3)]
    for member in members:
        member.subscribe(f"$share/{context.name}/{context.topic('+')}", 1)
    aside = Peer(context, "aside")
    aside.subscribe(context.topic("+"), 1)
    publisher = Peer(context, "publisher")
    sent = [str(number) for number in range(60)]
    for payload in sent:
        publisher.publish(context.topic("a"), payload, 1)
    aside.expect(sent)
    await_total(members, 60)
    got = sorted((p for member in members for p in member.payloads()), key=int)
    assert got == sent, got
    assert all(member.messages for member in members), [len(m.messages) for m in members]


def await_total(members, count):
    """Waits until the members together have that many messages."""
    deadline = time.monotonic() + 8
    while sum(len(member.messages) for member in members) < count:
        assert time.monotonic() < deadline, [len(member.messages) for member in members]
        time.sleep(0.005)


@case("$share: a member that leaves gets no more", PAHO)
def left(context):
    members = [Peer(context, f"member{number}") for number in range(2)]
    for member in members:
        member.subscribe(f"$share/{context.name}/{context.topic()}", 1)
    members[0].unsubscribe(f"$share/{context.name}/{context.topic()}")
    for number in range(10):
        members[0].publish(context.topic(), str(number), 1)
    members[1].expect([str(number) for number in range(10)])
    assert not members[0].messages
