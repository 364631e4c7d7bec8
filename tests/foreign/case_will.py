"""Will messages."""

import time

from paho.mqtt.packettypes import PacketTypes

from peer import Peer, properties
from suite import PAHO, V5, case


def will(context, level="will", payload="gone", qos=1, retain=False, **values):
    given = {"properties": properties(PacketTypes.WILLMESSAGE, **values)} if values else {}
    topic = context.topic(level)
    return {"topic": topic, "payload": payload, "qos": qos, "retain": retain, **given}


def watcher(context):
    peer = Peer(context, "watcher")
    peer.subscribe(context.topic("#"), 2)
    return peer


@case("will after a lost connection", PAHO)
def lost(context):
    watching = watcher(context)
    for qos in (0, 1, 2):
        peer = Peer(context, f"peer{qos}", will=will(context, payload=str(qos), qos=qos))
        peer.drop()
        watching.wait(lambda: len(watching.messages) > qos, f"the will of QoS {qos}")
    watching.expect(["0", "1", "2"])
    assert [m.qos for m in watching.messages] == [0, 1, 2]


@case("will retained", PAHO)
def retained(context):
    watching = watcher(context)
    Peer(context, "peer", will=will(context, retain=True)).drop()
    watching.expect(["gone"])
    late = Peer(context, "late")
    late.subscribe(context.topic("will"), 1)
    late.expect(["gone"])
    assert late.messages[0].retain


@case("no will after DISCONNECT", PAHO)
def orderly(context):
    watching = watcher(context)
    peer = Peer(context, "peer", will=will(context))
    peer.disconnect()
    peer.will = None
    peer.connect()  # the same session: the broker is through with the DISCONNECT
    peer.publish(context.topic("will"), "end", 1)
    watching.expect(["end"])


@case("will on DISCONNECT with 0x04", PAHO, (V5,))
def asked_for(context):
    watching = watcher(context)
    Peer(context, "peer", will=will(context)).disconnect(reason=0x04)
    watching.expect(["gone"])


@case("will delay", PAHO, (V5,))
def delay(context):
    watching = watcher(context)
    peer = Peer(context, "peer", expiry=60, will=will(context, WillDelayInterval=1))
    begun = time.monotonic()
    peer.drop()
    watching.expect(["gone"])
    waited = time.monotonic() - begun
    assert 0.9 <= waited <= 4, f"published after {waited:.2f} s"


@case("will delay ends with the session", PAHO, (V5,))
def session_end(context):
    watching = watcher(context)
    Peer(context, "peer", expiry=1, will=will(context, WillDelayInterval=600)).drop()
    watching.expect(["gone"])


@case("will cancelled by a new connection", PAHO, (V5,))
def cancelled(context):
    watching = watcher(context)
    back = Peer(context, "back", expiry=60, will=will(context, "back", WillDelayInterval=1))
    away = Peer(context, "away", expiry=60, will=will(context, "away", WillDelayInterval=2))
    back.drop()
    away.drop()
    assert back.resume(), "the session is gone"
    watching.wait(lambda: watching.messages, "the later will")
    assert [m.topic for m in watching.messages] == [context.topic("away")]


@case("will properties", PAHO, (V5,))
def carried(context):
    watching = watcher(context)
    given = {"ContentType": "text/plain", "ResponseTopic": "answer/here",
             "PayloadFormatIndicator": 1, "CorrelationData": b"\x00\x01",
             "UserProperty": [("b", "1"), ("a", "2")]}
    Peer(context, "peer", will=will(context, **given)).drop()
    watching.expect(["gone"])
    got = watching.messages[0].properties
    assert {name: getattr(got, name) for name in given} == given
