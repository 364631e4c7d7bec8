"""Bytes that no client library sends: how packets fall into segments, silence, and packets that
are malformed. A faulty packet costs its own connection and nothing else."""

import struct
import time

import wire
from suite import SOCKET, V311, V5, case
from wire import Wire, packet, text

U16 = struct.Struct("!H").pack


@case("many packets in one segment", SOCKET)
def one_segment(context):
    client = Wire(context, connect=False)
    publishes = [client.publish_packet(context.topic(), b"%d" % number, number % 2, number + 1)
                 for number in range(50)]
    subscribe = client.subscribe_packet(context.topic(), 0)
    client.send(client.connect_packet() + subscribe + b"".join(publishes))
    client.expect(wire.CONNACK)
    got, acknowledged, subscribed = [], 0, 0
    while len(got) < 50 or acknowledged < 25 or not subscribed:
        kind, _, body = client.read()
        subscribed += kind == wire.SUBACK
        acknowledged += kind == wire.PUBACK
        if kind == wire.PUBLISH:
            got.append(int(body[2 + len(context.topic()) + client.is_v5:]))
    assert sorted(got) == list(range(50)), got
    assert acknowledged == 25 and subscribed == 1


@case("one byte per segment", SOCKET)
def byte_by_byte(context):
    client = Wire(context, connect=False)
    whole = client.connect_packet() + client.subscribe_packet(context.topic())
    for byte in whole + client.publish_packet(context.topic(), b"slow"):
        client.send(bytes([byte]))
    client.expect(wire.CONNACK)
    client.expect(wire.SUBACK)
    assert client.expect_publish()[2] == b"slow"


@case("keep-alive time-out", SOCKET)
def silence(context):
    client = Wire(context, keep_alive=1)
    begun = time.monotonic()
    client.expect_end((0x8D, None))
    waited = time.monotonic() - begun
    assert 1.2 <= waited <= 4, f"ended after {waited:.2f} s"


@case("keep-alive is fed by any packet", SOCKET)
def not_silent(context):
    client = Wire(context, keep_alive=1)
    for number in range(5):
        context.elapse(0.5)
        client.send(client.publish_packet(context.topic(), b"alive"))
    assert not client.barrier()


@case("CONNECT must come first", SOCKET)
def not_connected(context):
    for first in (packet(wire.PINGREQ, 0, b""), b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00"):
        client = Wire(context, connect=False)
        client.send(first)
        assert client.read() is None, "something was answered"


@case("CONNECT with a reserved flag, a strange name or level", SOCKET)
def strange_connect(context):
    client = Wire(context, connect=False)
    good = client.connect_packet()
    name = good.index(b"MQTT")
    level, flags = name + 4, name + 5
    for at, value in ((flags, good[flags] | 1), (name, ord("X")), (level, 9), (level, 0)):
        client = Wire(context, connect=False)
        client.send(good[:at] + bytes([value]) + good[at + 1:])
        got = client.read()
        if got is not None:
            assert got[0] == wire.CONNACK and got[2][1] != 0, got
            assert client.read() is None, "the connection stays"


@case("a good packet before a bad one counts", SOCKET)
def good_then_bad(context):
    watching = Wire(context, "watcher")
    watching.subscribe(context.topic())
    client = Wire(context)
    client.send(client.publish_packet(context.topic(), b"good") + b"\x00\x00")
    assert watching.expect_publish()[2] == b"good"
    client.expect_end((0x81, 0x82))


def properties(*parts):
    encoded = b"".join(parts)
    return bytes([len(encoded)]) + encoded


def publish(topic, given, payload=b"x"):
    return packet(wire.PUBLISH, 0, text(topic) + properties(given) + payload)


def subscribe(topic, option, *given):
    return packet(wire.SUBSCRIBE, 2, U16(1) + properties(*given) + text(topic) + bytes([option]))


# name: (bytes for 3.1.1 or None, bytes for 5, reasons of which one must be given)
EMPTY = b"\x00"  # no properties
MALFORMED = {
    "packet type 0": (b"\x00\x00", b"\x00\x00", (0x81, 0x82)),
    "SUBSCRIBE flags": (b"\x80\x06" + U16(1) + text("a")[:3] + b"\x00",
                        packet(wire.SUBSCRIBE, 0, U16(1) + EMPTY + text("a") + b"\x00"), (0x81,)),
    "PUBREL flags": (b"\x60\x02\x00\x01", b"\x60\x02\x00\x01", (0x81,)),
    "PINGREQ flags": (b"\xc1\x00", b"\xc1\x00", (0x81,)),
    "DISCONNECT flags": (b"\xe1\x00", b"\xe1\x00", (0x81,)),
    "QoS 3": (packet(wire.PUBLISH, 6, text("a") + U16(1)),
              packet(wire.PUBLISH, 6, text("a") + U16(1) + EMPTY), (0x81,)),
    "QoS 1 with packet id 0": (packet(wire.PUBLISH, 2, text("a") + U16(0)),
                               packet(wire.PUBLISH, 2, text("a") + U16(0) + EMPTY), (0x81, 0x82)),
    "remaining length of five bytes": (b"\x30\xff\xff\xff\xff\x7f", b"\x30\xff\xff\xff\xff\x7f",
                                       (0x81,)),
    "packet larger than the limit": (b"\x30\xff\xff\xff\x7f", b"\x30\xff\xff\xff\x7f", (0x95,)),
    "topic longer than its packet": (b"\x30\x04\x00\x09ab", b"\x30\x04\x00\x09ab", (0x81,)),
    "topic with a wildcard": (packet(wire.PUBLISH, 0, text("a/#")),
                              packet(wire.PUBLISH, 0, text("a/#") + EMPTY), (0x90, 0x81, 0x82)),
    "topic of bad UTF-8": (packet(wire.PUBLISH, 0, text(b"a\xff")),
                           packet(wire.PUBLISH, 0, text(b"a\xff") + EMPTY), (0x81, 0x90)),
    "topic with U+0000": (packet(wire.PUBLISH, 0, text(b"a\x00b")),
                          packet(wire.PUBLISH, 0, text(b"a\x00b") + EMPTY), (0x81, 0x90)),
    "empty topic": (packet(wire.PUBLISH, 0, text("")),
                    packet(wire.PUBLISH, 0, text("") + EMPTY), (0x82,)),
    "SUBSCRIBE without filters": (packet(wire.SUBSCRIBE, 2, U16(1)),
                                  packet(wire.SUBSCRIBE, 2, U16(1) + EMPTY), (0x82, 0x81)),
    "UNSUBSCRIBE without filters": (packet(wire.UNSUBSCRIBE, 2, U16(1)),
                                    packet(wire.UNSUBSCRIBE, 2, U16(1) + EMPTY), (0x82, 0x81)),
    "reserved subscription options": (packet(wire.SUBSCRIBE, 2, U16(1) + text("a") + b"\x84"),
                                      subscribe("a", 0xC0), (0x81, 0x82)),
    "subscription QoS 3": (packet(wire.SUBSCRIBE, 2, U16(1) + text("a") + b"\x03"),
                           subscribe("a", 0x03), (0x81, 0x82)),
    "retain handling 3": (None, subscribe("a", 0x30), (0x81, 0x82)),
    "no-local on $share": (None, subscribe("$share/g/a", 0x04), (0x82,)),
    "subscription id 0": (None, subscribe("a", 0, b"\x0b\x00"), (0x82, 0x81)),
    "PUBLISH with a subscription id": (None, publish("a", b"\x0b\x01"), (0x82, 0x81)),
    "topic alias 0": (None, publish("a", b"\x23\x00\x00"), (0x94, 0x82)),
    "topic alias beyond the maximum": (None, publish("a", b"\x23\xff\xff"), (0x94,)),
    "topic alias never set": (None, publish("", b"\x23\x00\x01"), (0x82, 0x94)),
    "unknown property": (None, publish("a", b"\x7f\x00"), (0x81, 0x82)),
    "property of another packet": (None, publish("a", b"\x11\x00\x00\x00\x01"), (0x81, 0x82)),
    "property given twice": (None, publish("a", b"\x01\x01\x01\x01"), (0x82, 0x81)),
    "packet that only servers send": (b"\xd0\x00", b"\xd0\x00", (0x82, 0x81)),
}


def malformed(name, plain, modern, reasons):
    versions = (V311, V5) if plain else (V5,)

    @case(f"malformed: {name}", SOCKET, versions)
    def one_fault(context):
        bystander = Wire(context, "bystander")
        client = Wire(context)
        client.send(modern if client.is_v5 else plain)
        client.expect_end(reasons)
        assert not bystander.barrier()


for row, values in MALFORMED.items():
    malformed(row, *values)


@case("malformed: second CONNECT", SOCKET)
def second_connect(context):
    client = Wire(context)
    client.send(client.connect_packet())
    client.expect_end((0x82,))


@case("filter that breaks the rules", SOCKET)
def bad_filter(context):
    for wrong in ("a/#/b", "a+/b", "a/b#", ""):
        bystander = Wire(context, "bystander")
        client = Wire(context)
        client.send(client.subscribe_packet(wrong))
        got = client.read()
        if got and got[0] == wire.SUBACK:
            assert got[2][-1] in (0x80, 0x8F), f"{wrong!r} was granted"
        elif got:
            assert got[0] == wire.DISCONNECT and got[2][0] in (0x81, 0x82, 0x8F), got
        assert not bystander.barrier()
