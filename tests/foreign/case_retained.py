"""Retained messages."""

from peer import Peer
from suite import PAHO, V5, case


def settle(context, peer):
    """Returns when whatever retained messages earlier subscriptions of `peer` asked for are
    there: a later subscription's retained message has arrived."""
    topic = context.topic("settle", peer.client_id)
    Peer(context, f"settle-{peer.client_id}").publish(topic, "settled", 1, retain=True)
    peer.subscribe(topic, 1)
    peer.wait(lambda: "settled" in peer.payloads(topic), "the retained message")
    peer.messages = [m for m in peer.messages if m.topic != topic]


def flags(peer):
    return [(m.payload.decode(), m.retain) for m in peer.messages]


@case("retained: set, replace, clear", PAHO)
def life(context):
    publisher = Peer(context, "publisher")
    for number, payload in enumerate(("one", "two", "")):
        publisher.publish(context.topic("a"), payload, number, retain=True)
        subscriber = Peer(context, f"subscriber{number}")
        subscriber.subscribe(context.topic("a"), 2)
        settle(context, subscriber)
        expected = [(payload, True)] if payload else []
        assert flags(subscriber) == expected, flags(subscriber)
        assert not payload or subscriber.messages[0].qos == number


@case("retained: many match one filter", PAHO)
def many(context):
    publisher = Peer(context, "publisher")
    expected = {context.topic("n", str(number)): str(number) for number in range(300)}
    for topic, payload in expected.items():
        publisher.publish(topic, payload, 1, retain=True, wait=False)
    publisher.publish(context.topic("n", "end"), "end", 1)
    subscriber = Peer(context, "subscriber")
    subscriber.subscribe(context.topic("n", "+"), 1)
    subscriber.wait(lambda: len(subscriber.messages) >= 300, "300 messages")
    assert {m.topic: m.payload.decode() for m in subscriber.messages} == expected
    assert len(subscriber.messages) == 300


@case("retained: live copies carry no flag", PAHO)
def live(context):
    peer = Peer(context, "peer")
    peer.subscribe(context.topic(), 1)
    peer.publish(context.topic(), "live", 1, retain=True)
    peer.expect(["live"])
    assert not peer.messages[0].retain


@case("retained publish, then subscribe, one connection", PAHO)
def own(context):
    peer = Peer(context, "peer")
    for qos in (0, 1):
        peer.publish(context.topic(str(qos)), "kept", qos, retain=True, wait=False)
        peer.subscribe(context.topic(str(qos)), qos, wait=False)
        peer.wait(lambda: len(peer.messages) > qos, "the retained message")
    assert flags(peer) == [("kept", True)] * 2, flags(peer)


@case("retain as published", PAHO, (V5,))
def as_published(context):
    peers = [Peer(context, f"peer{keep}") for keep in (0, 1)]
    for keep, peer in enumerate(peers):
        peer.subscribe(context.topic(), 1, retainAsPublished=bool(keep))
    peers[0].publish(context.topic(), "retained", 1, retain=True)
    peers[0].publish(context.topic(), "plain", 1)
    for keep, peer in enumerate(peers):
        peer.expect(["retained", "plain"])
        assert [m.retain for m in peer.messages] == [bool(keep), False]


@case("retain handling 0/1/2", PAHO, (V5,))
def handling(context):
    peer = Peer(context, "peer")
    peer.publish(context.topic("a"), "kept", 1, retain=True)
    counts = []
    for option in (1, 1, 2, 0):
        peer.subscribe(context.topic("a"), 1, retainHandling=option)
        settle(context, peer)
        counts.append(len(peer.messages))
    assert counts == [1, 1, 1, 2], counts
    peer.unsubscribe(context.topic("a"))
    peer.subscribe(context.topic("a"), 1, retainHandling=2)
    settle(context, peer)
    assert len(peer.messages) == 2


@case("retained: message expiry", PAHO, (V5,))
def expiry(context):
    publisher = Peer(context, "publisher")
    publisher.publish(context.topic("short"), "short", 1, retain=True, MessageExpiryInterval=1)
    publisher.publish(context.topic("long"), "long", 1, retain=True, MessageExpiryInterval=100)
    context.elapse(2.1)
    subscriber = Peer(context, "subscriber")
    subscriber.subscribe(context.topic("+"), 1)
    settle(context, subscriber)
    subscriber.expect(["long"])
    assert 90 <= subscriber.messages[0].properties.MessageExpiryInterval <= 98


@case("retained outlives its publisher's session", PAHO)
def outlives(context):
    publisher = Peer(context, "publisher")
    publisher.publish(context.topic(), "kept", 1, retain=True)
    publisher.disconnect()
    subscriber = Peer(context, "subscriber")
    subscriber.subscribe(context.topic(), 1)
    subscriber.expect(["kept"])
