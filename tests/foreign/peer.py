"""A paho client that a case can wait on: every wait has a condition and a deadline."""

import socket
import threading
import time

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

import suite

PROTOCOLS = {suite.V31: paho.MQTTv31, suite.V311: paho.MQTTv311, suite.V5: paho.MQTTv5}


def properties(packet, **values):
    """Properties of one packet, named as in paho."""
    found = Properties(packet)
    for name, value in values.items():
        setattr(found, name, value)
    return found


def publish_properties(**values):
    return properties(PacketTypes.PUBLISH, **values)


class Peer:
    """One client id and its connections, one after the other."""

    def __init__(self, context, name, clean=True, expiry=None, will=None, connect=True, **options):
        self.context = context
        self.is_v5 = context.version == suite.V5
        self.clean = clean
        self.expiry = expiry
        self.will = will
        self.keep_alive = options.pop("keep_alive", 30)
        self.connect_properties = options.pop("properties", {})
        self.credentials = options.pop("credentials", None)
        self.client_id = context.client_id(name) if name else ""
        self.options = options
        self.changed = threading.Condition()
        self.messages = []
        self.client = None
        context.keep(self)
        if connect:
            self.connect()

    def connect(self):
        """Connects and waits for the CONNACK; returns whether a session was present."""
        session = {} if self.is_v5 else {"clean_session": self.clean}
        client = paho.Client(CallbackAPIVersion.VERSION2, self.client_id,
                             protocol=PROTOCOLS[self.context.version], reconnect_on_failure=False,
                             **session, **self.options)
        self.connack = self.connack_properties = self.session_present = self.ended = None
        self.acknowledged = {}
        self.explanations = {}
        self.prepare(client)
        if self.credentials:
            client.username_pw_set(*self.credentials)
        client.on_connect = self.on_connect
        client.on_disconnect = self.on_disconnect
        client.on_message = self.on_message
        client.on_subscribe = self.on_answer
        client.on_unsubscribe = self.on_answer
        client.on_publish = self.on_publish
        client.max_inflight_messages_set(100)
        if self.will:
            client.will_set(**self.will)
        self.client = client
        client.connect(self.context.host, self.context.port, self.keep_alive,
                       **self.start_options())
        client.loop_start()
        self.wait(lambda: self.connack is not None, "CONNACK")
        assert not self.connack.is_failure, f"refused: {self.connack}"
        return self.session_present

    def start_options(self):
        if not self.is_v5:
            return {}
        values = dict(self.connect_properties)
        if self.expiry is not None:
            values["SessionExpiryInterval"] = self.expiry
        return {"clean_start": self.clean, "properties": properties(PacketTypes.CONNECT, **values)}

    def prepare(self, client):
        """What else a client needs before it connects."""

    def resume(self):
        """Connects again and asks for the old session."""
        self.clean = False
        return self.connect()

    def wait(self, condition, what, seconds=suite.ANSWER_S):
        deadline = time.monotonic() + seconds
        with self.changed:
            while not condition():
                left = deadline - time.monotonic()
                assert left > 0, f"{self.client_id} waited {seconds} s for {what}; {self.state()}"
                self.changed.wait(left)

    def state(self):
        got = [(m.topic, bytes(m.payload[:20]), m.qos) for m in self.messages[-5:]]
        return f"ended: {self.ended}, {len(self.messages)} messages, last {got}"

    def note(self, change):
        with self.changed:
            change()
            self.changed.notify_all()

    def on_connect(self, _client, _data, flags, reason, given):
        def change():
            self.session_present = flags.session_present
            self.connack_properties = given
            self.connack = reason

        self.note(change)

    def on_disconnect(self, client, _data, _flags, reason, _properties):
        # paho tells the broker's reason first, then the end of the socket.
        if client is self.client and self.ended is None:
            self.note(lambda: setattr(self, "ended", reason))

    def on_message(self, _client, _data, message):
        self.note(lambda: self.messages.append(message))

    def on_answer(self, _client, _data, mid, reasons, told):
        text = getattr(told, "ReasonString", None)
        self.note(lambda: self.explanations.__setitem__(mid, text))
        self.note(lambda: self.acknowledged.__setitem__(mid, reasons))

    on_publish = on_answer

    def subscribe(self, topic, qos=0, identifier=None, wait=True, **options):
        """Subscribes and waits for the SUBACK; returns its reason codes."""
        if self.is_v5:
            given = {"options": SubscribeOptions(qos, **options)}
            if identifier:
                given["properties"] = properties(PacketTypes.SUBSCRIBE,
                                                 SubscriptionIdentifier=identifier)
        else:
            given = {"qos": qos}
        _, mid = self.client.subscribe(topic, **given)
        return self.answer(mid, "SUBACK") if wait else None

    def unsubscribe(self, topic):
        _, mid = self.client.unsubscribe(topic)
        return self.answer(mid, "UNSUBACK")

    def answer(self, mid, what):
        self.wait(lambda: mid in self.acknowledged, what)
        return self.acknowledged[mid]

    def publish(self, topic, payload, qos=0, retain=False, wait=True, **values):
        """Publishes and, above QoS 0, waits until the broker has taken the message."""
        given = {"properties": publish_properties(**values)} if values else {}
        sent = self.client.publish(topic, payload, qos, retain, **given)
        return self.answer(sent.mid, f"QoS {qos} acknowledgement") if wait and qos else sent.mid

    def payloads(self, topic=None):
        return [m.payload.decode() for m in self.messages if topic in (None, m.topic)]

    def expect(self, payloads, topic=None, seconds=suite.ANSWER_S):
        """Waits for as many messages, then compares all of them."""
        self.wait(lambda: len(self.payloads(topic)) >= len(payloads), payloads, seconds)
        assert self.payloads(topic) == payloads, f"{self.payloads(topic)} instead of {payloads}"

    def expect_end(self):
        """Waits until the broker has ended the connection. paho reads the reason of a DISCONNECT
        only if properties follow it, so cases about the reason speak in bytes."""
        self.wait(lambda: self.ended is not None, "the end of the connection")

    def drop(self):
        """Ends the connection as a failing network does."""
        self.client.socket().shutdown(socket.SHUT_RDWR)
        self.client.loop_stop()

    def disconnect(self, reason=0, **values):
        given = {}
        if self.is_v5:
            given["reasoncode"] = ReasonCode(PacketTypes.DISCONNECT, identifier=reason)
            given["properties"] = properties(PacketTypes.DISCONNECT, **values)
        self.client.disconnect(**given)
        self.client.loop_stop()

    def close(self):
        if self.client:
            self.client.disconnect()
            self.client.loop_stop()
