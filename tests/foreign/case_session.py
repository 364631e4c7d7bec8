"""Sessions: resumption, expiry, take-over, resending."""

import struct

import wire
from peer import Peer
from suite import PAHO, SOCKET, V5, case
from wire import Wire

EXPIRY_60 = b"\x11" + struct.pack("!I", 60)


def lasting(context, name="lasting", **options):
    expiry = 60 if context.version == V5 else None
    return Peer(context, name, clean=False, expiry=expiry, **options)


@case("session resumed with queued QoS 1 and 2", PAHO)
def resumed(context):
    peer = lasting(context)
    assert not peer.session_present
    peer.subscribe(context.topic("#"), 2)
    peer.disconnect()
    publisher = Peer(context, "publisher")
    sent = [f"{qos}.{number}" for number in range(20) for qos in (1, 2)]
    for payload in sent:
        publisher.publish(context.topic(payload[0]), payload, int(payload[0]))
    assert peer.connect(), "no session present"
    for qos in "12":
        peer.expect([p for p in sent if p[0] == qos], context.topic(qos))
    publisher.publish(context.topic("live"), "live", 1)
    peer.expect(["live"], context.topic("live"))


@case("clean start discards the session", PAHO)
def discarded(context):
    peer = lasting(context)
    peer.subscribe(context.topic("a"), 1)
    peer.disconnect()
    Peer(context, "publisher").publish(context.topic("a"), "queued", 1)
    peer.clean = True
    assert not peer.connect(), "session present after a clean start"
    peer.subscribe(context.topic("b"), 1)
    peer.publish(context.topic("a"), "unsubscribed", 1)
    peer.publish(context.topic("b"), "end", 1)
    peer.expect(["end"])


@case("clean session ends with its connection", PAHO)
def ended(context):
    peer = Peer(context, "peer")
    peer.subscribe(context.topic(), 1)
    peer.disconnect()
    assert not peer.resume(), "session present"


@case("session expiry", PAHO, (V5,))
def expiry(context):
    kept = Peer(context, "kept", clean=False, expiry=60)
    lapsed = Peer(context, "lapsed", clean=False, expiry=1)
    for peer in (kept, lapsed):
        peer.subscribe(context.topic(), 1)
        peer.drop()
    context.elapse(2.6)
    assert kept.connect(), "60 s ended early"
    assert not lapsed.connect(), "1 s did not end"


@case("session expiry changed by DISCONNECT", PAHO, (V5,))
def expiry_changed(context):
    peer = Peer(context, "peer", clean=False, expiry=60)
    peer.disconnect(SessionExpiryInterval=0)
    assert not peer.connect(), "session present"
    peer.disconnect(SessionExpiryInterval=30)
    assert peer.connect(), "no session present"


@case("message expiry while queued", PAHO, (V5,))
def message_expiry(context):
    peer = lasting(context)
    peer.subscribe(context.topic(), 1)
    peer.disconnect()
    publisher = Peer(context, "publisher")
    publisher.publish(context.topic(), "short", 1, MessageExpiryInterval=1)
    publisher.publish(context.topic(), "long", 1, MessageExpiryInterval=100)
    context.elapse(2.1)
    peer.connect()
    publisher.publish(context.topic(), "end", 1)
    peer.expect(["long", "end"])
    assert 90 <= peer.messages[0].properties.MessageExpiryInterval <= 98


@case("take-over ends the old connection", PAHO)
def taken_over(context):
    old = lasting(context, "same")
    old.subscribe(context.topic(), 1)
    new = lasting(context, "same")
    assert new.session_present
    old.expect_end()
    new.publish(context.topic(), "to the new one", 1)
    new.expect(["to the new one"])
    assert not old.messages


@case("take-over tells the old connection", SOCKET)
def told(context):
    old = Wire(context, "same")
    new = Wire(context, "same")
    old.expect_end((0x8E,))
    assert not new.barrier()


@case("unacknowledged QoS 1 is resent with DUP", SOCKET)
def resent(context):
    first, packet_id = unfinished(context, 1)
    assert first == 1 << 1, f"flags {first}"
    again = reconnect(context)
    assert again.expect_publish() == (0x0A, packet_id, b"once")
    again.send(again.answer_packet(wire.PUBACK, packet_id))
    assert not again.barrier()


@case("QoS 2 goes on where it stopped", SOCKET)
def continued(context):
    _, packet_id = unfinished(context, 2, wire.PUBREC)
    again = reconnect(context)
    assert again.expect(wire.PUBREL)[:2] == struct.pack("!H", packet_id)
    again.send(again.answer_packet(wire.PUBCOMP, packet_id))
    assert not again.barrier()


def reconnect(context):
    client = Wire(context, "lasting", clean=False, **expiring(context))
    assert client.session_present
    return client


def expiring(context):
    return {"properties": EXPIRY_60} if context.version == V5 else {}


def unfinished(context, qos, answer=None):
    """A client gets a message, answers it only so far and goes; returns flags and packet id."""
    client = Wire(context, "lasting", clean=False, **expiring(context))
    client.subscribe(context.topic(), qos)
    Peer(context, "publisher").publish(context.topic(), "once", qos)
    flags, packet_id, payload = client.expect_publish()
    assert payload == b"once"
    if answer:
        client.send(client.answer_packet(answer, packet_id))
        client.expect(wire.PUBREL)
    client.close()
    return flags, packet_id


@case("QoS 2 sent twice arrives once", SOCKET)
def once(context):
    watching = Peer(context, "watcher")
    watching.subscribe(context.topic(), 2)
    client = Wire(context)
    for dup in (0, 1):
        client.send(client.publish_packet(context.topic(), b"once", 2, packet_id=5, dup=dup))
        client.expect(wire.PUBREC)
    client.send(client.answer_packet(wire.PUBREL, 5))
    client.expect(wire.PUBCOMP)
    client.send(client.publish_packet(context.topic(), b"end", 2, packet_id=5))
    client.expect(wire.PUBREC)
    client.send(client.answer_packet(wire.PUBREL, 5))
    watching.expect(["once", "end"])


@case("empty client id without clean session is refused", SOCKET)
def refused(context):
    client = Wire(context, connect=False)
    client.send(client.connect_packet(clean=client.is_v5, client_id=""))
    body = client.expect(wire.CONNACK)
    if client.is_v5:
        assert body[1] == 0 and b"\x12" in body, "no assigned client id"
    else:
        assert body == b"\x00\x02", body
        assert client.read() is None
