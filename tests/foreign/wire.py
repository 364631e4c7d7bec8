"""A client made of bytes, for what no client library lets one do."""

import socket
import struct

import suite

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = range(1, 8)
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = range(8, 15)
LEVELS = {suite.V31: 3, suite.V311: 4, suite.V5: 5}


def variable(number):
    out = bytearray()
    while True:
        number, low = divmod(number, 128)
        out.append(low | (0x80 if number else 0))
        if not number:
            return bytes(out)


def text(value):
    encoded = value if isinstance(value, bytes) else value.encode()
    return struct.pack("!H", len(encoded)) + encoded


def packet(kind, flags, body):
    return bytes([kind << 4 | flags]) + variable(len(body)) + body


class Wire:
    """One TCP connection. Packets are (kind, flags, body)."""

    def __init__(self, context, name="wire", connect=True, **options):
        self.version = context.version
        self.is_v5 = self.version == suite.V5
        self.client_id = context.client_id(name)
        self.socket = socket.create_connection((context.host, context.port), suite.ANSWER_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = bytearray()
        context.keep(self)
        if connect:
            self.send(self.connect_packet(**options))
            kind, _, body = self.read()
            assert kind == CONNACK and body[1] == 0, f"CONNACK expected: {kind} {body.hex()}"
            self.session_present = bool(body[0] & 1)

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def properties(self, encoded=b""):
        return variable(len(encoded)) + encoded if self.is_v5 else b""

    def connect_packet(self, clean=True, keep_alive=30, properties=b"", flags=0, client_id=None):
        head = text("MQIsdp" if self.version == suite.V31 else "MQTT")
        head += bytes([LEVELS[self.version], flags | (2 if clean else 0)])
        head += struct.pack("!H", keep_alive) + self.properties(properties)
        return packet(CONNECT, 0, head + text(self.client_id if client_id is None else client_id))

    def publish_packet(self, topic, payload=b"", qos=0, packet_id=1, dup=0, properties=b""):
        head = text(topic) + (struct.pack("!H", packet_id) if qos else b"")
        body = head + self.properties(properties) + payload
        return packet(PUBLISH, dup << 3 | qos << 1, body)

    def subscribe_packet(self, topic, options=0, packet_id=1, properties=b""):
        head = struct.pack("!H", packet_id) + self.properties(properties)
        return packet(SUBSCRIBE, 2, head + text(topic) + bytes([options]))

    def answer_packet(self, kind, packet_id):
        return packet(kind, 2 if kind == PUBREL else 0, struct.pack("!H", packet_id))

    def read(self):
        """The next packet; None at the end of the connection."""
        while (whole := self.take()) is None:
            try:
                more = self.socket.recv(65536)
            except ConnectionResetError:
                return None
            if not more:
                return None
            self.received += more
        return whole

    def take(self):
        length = shift = 0
        for at, byte in enumerate(self.received[1:5], start=1):
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                end = at + 1 + length
                if len(self.received) < end:
                    return None
                first, body = self.received[0], bytes(self.received[at + 1:end])
                del self.received[:end]
                return first >> 4, first & 15, body
        return None

    def expect(self, kind):
        """The body of the next packet, which must be of that kind."""
        got = self.read()
        assert got and got[0] == kind, f"packet type {kind} expected, not {got}"
        return got[2]

    def expect_publish(self):
        """The next packet as (flags, packet id, payload)."""
        got = self.read()
        assert got and got[0] == PUBLISH, f"PUBLISH expected, not {got}"
        _, flags, body = got
        at = 2 + struct.unpack_from("!H", body)[0]
        packet_id = 0
        if flags & 6:
            packet_id = struct.unpack_from("!H", body, at)[0]
            at += 2
        if self.is_v5:
            at += 1 + body[at]  # no case sends more than 127 bytes of properties
        return flags, packet_id, body[at:]

    def subscribe(self, topic, options=0):
        self.send(self.subscribe_packet(topic, options))
        self.expect(SUBACK)

    def barrier(self):
        """Packets that arrived before the answer to a PINGREQ."""
        self.send(packet(PINGREQ, 0, b""))
        before = []
        while (got := self.read()) and got[0] != PINGRESP:
            before.append(got)
        assert got, "the connection ended"
        return before

    def expect_end(self, reasons, others=()):
        """The connection ends; v5: with a DISCONNECT of one of the reasons, which must be sent
        unless None is among them. `others` are kinds of packets that may come before."""
        seen = None
        while got := self.read():
            kind, _, body = got
            if kind in others:
                continue
            assert kind == DISCONNECT and self.is_v5, f"unexpected packet {kind} {body.hex()}"
            seen = body[0] if body else 0
        if self.is_v5:
            assert seen in reasons, f"DISCONNECT {seen and hex(seen)}, not {reasons}"
