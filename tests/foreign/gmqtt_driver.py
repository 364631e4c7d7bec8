"""Drives gmqtt, a client library that others wrote, through the features of the matrix; MQTT 5.

    gmqtt_driver.py HOST PORT

Prints one line of JSON for each feature: its name, its result (ok, FAIL or "not offered") and the
fault. run.py reads them.
"""

import asyncio
import json
import logging
import os
import sys
import time
import traceback

import gmqtt
from gmqtt.storage import PersistentStorage

HOST, PORT = sys.argv[1], int(sys.argv[2])
ANSWER_S = 10
RUN = f"gm{os.getpid()}"
CASES = []


class NotOffered(Exception):
    """The broker says, or shows, that it does not offer the feature."""


def case(feature):
    def register(function):
        CASES.append((feature, function))
        return function

    return register


class Peer:
    """One connection that a case can wait on: every wait has a condition and a deadline."""

    def __init__(self, client_id, clean=True, will=None, **properties):
        self.messages = []
        self.granted = []
        self.connack = self.session_present = self.ended = None
        self.changed = asyncio.Condition()
        self.stored = PersistentStorage()
        self.client = gmqtt.Client(client_id, clean_session=clean, will_message=will,
                                   persistent_storage=self.stored, **properties)
        self.client.set_config({"reconnect_retries": -2, "reconnect_delay": 3600})
        self.client.on_connect = self.on_connect
        self.client.on_message = self.on_message
        self.client.on_subscribe = self.on_subscribe
        self.client.on_disconnect = self.on_disconnect

    async def connect(self, keep_alive=30):
        await asyncio.wait_for(self.client.connect(HOST, PORT, keepalive=keep_alive), ANSWER_S)
        return self

    def note(self, **changes):
        for name, value in changes.items():
            setattr(self, name, value)
        asyncio.ensure_future(self.wake())

    async def wake(self):
        async with self.changed:
            self.changed.notify_all()

    def on_connect(self, _client, session_present, _code, properties):
        self.note(session_present=bool(session_present), connack=dict(properties))

    def on_message(self, _client, topic, payload, qos, properties):
        self.messages.append((topic, payload, qos, properties))
        self.note()
        return 0

    def on_subscribe(self, _client, _mid, granted, _properties):
        self.granted.append(list(granted))
        self.note()

    def on_disconnect(self, _client, packet, exc=None):
        self.note(ended=(packet, exc))

    async def wait(self, condition, what):
        async def until():
            async with self.changed:
                await self.changed.wait_for(condition)

        try:
            await asyncio.wait_for(until(), ANSWER_S)
        except asyncio.TimeoutError:
            state = f"ended {self.ended}, {len(self.messages)} messages"
            raise AssertionError(f"waited for {what}; {state}") from None

    async def subscribe(self, topic, qos=1, **options):
        before = len(self.granted)
        self.client.subscribe(topic, qos=qos, **options)
        await self.wait(lambda: len(self.granted) > before, "SUBACK")
        return self.granted[-1]

    async def publish(self, topic, payload, qos=1, retain=False, **properties):
        """Publishes and, above QoS 0, waits until the broker has taken the message."""
        self.client.publish(topic, payload, qos=qos, retain=retain, **properties)
        await asyncio.wait_for(self.stored.wait_empty(), ANSWER_S)

    def payloads(self):
        return [payload.decode() for _, payload, _, _ in self.messages]

    async def expect(self, payloads):
        """Waits for as many messages, then compares all of them."""
        await self.wait(lambda: len(self.messages) >= len(payloads), payloads)
        assert self.payloads() == payloads, f"{self.payloads()} instead of {payloads}"

    async def drop(self):
        """Ends the connection as a failing network does."""
        self.client._is_active = False  # else the library connects again
        self.client._connection._transport.abort()

    async def disconnect(self):
        await self.client.disconnect()


class Context:
    """What a case works with: peers and names that no other case uses."""

    def __init__(self, number):
        self.name = f"{RUN}-{number}"
        self.peers = []

    def topic(self, *levels):
        return "/".join(["foreign", self.name, *levels])

    async def open(self, name, keep_alive=30, **options):
        peer = Peer(f"{self.name}-{name}", **options)
        self.peers.append(peer)
        return await peer.connect(keep_alive)

    async def lasting(self, name, seconds=60, **options):
        return await self.open(name, clean=False, session_expiry_interval=seconds, **options)

    def will(self, **properties):
        return gmqtt.Message(self.topic("will"), "gone", qos=1, **properties)

    async def close(self):
        for peer in self.peers:
            await peer.drop()


@case("connect")
async def connect(context):
    peer = await context.open("peer")
    assert not peer.session_present, "a session of a new client id"
    await peer.disconnect()


@case("clean session")
async def clean(context):
    peer = await context.open("peer")
    await peer.subscribe(context.topic())
    await peer.disconnect()
    assert not (await context.lasting("peer")).session_present, "session present"


@case("persistent session")
async def persistent(context):
    peer = await context.lasting("peer")
    await peer.subscribe(context.topic(), 2)
    await peer.disconnect()
    publisher = await context.open("publisher")
    for payload, qos in (("one", 1), ("two", 2)):
        await publisher.publish(context.topic(), payload, qos)
    again = await context.lasting("peer")
    assert again.session_present, "no session present"
    await again.expect(["one", "two"])


def quality(level):
    @case(f"QoS {level}")
    async def one(context):
        peer, publisher = await context.open("peer"), await context.open("publisher")
        assert await peer.subscribe(context.topic(), level) == [level]
        sent = [str(number) for number in range(50)]
        for payload in sent:
            await publisher.publish(context.topic(), payload, level)
        await peer.expect(sent)
        assert {qos for _, _, qos, _ in peer.messages} == {level}


for of_three in (0, 1, 2):
    quality(of_three)


@case("retained")
async def retained(context):
    publisher = await context.open("publisher")
    for payload in ("old", "kept"):
        await publisher.publish(context.topic("a"), payload, retain=True)
    late = await context.open("late")
    await late.subscribe(context.topic("+"))
    await late.expect(["kept"])
    assert late.messages[0][3]["retain"], "no retain flag"


@case("will")
async def will(context):
    watcher = await context.open("watcher")
    await watcher.subscribe(context.topic("will"))
    await (await context.open("peer", will=context.will())).drop()
    await watcher.expect(["gone"])


@case("will delay")
async def will_delay(context):
    watcher = await context.open("watcher")
    await watcher.subscribe(context.topic("#"))
    await (await context.lasting("peer", will=context.will(will_delay_interval=1))).drop()
    await watcher.publish(context.topic("before"), "before")
    await watcher.expect(["before", "gone"])


@case("shared subscription")
async def shared(context):
    members = [await context.open(name) for name in ("first", "second")]
    for member in members:
        await member.subscribe(f"$share/{context.name}/{context.topic()}")
    publisher = await context.open("publisher")
    sent = [str(number) for number in range(20)]
    for payload in sent:
        await publisher.publish(context.topic(), payload)
    # They take turns, so each gets half.
    for member in members:
        await member.wait(lambda member=member: len(member.messages) >= 10, "half of 20 messages")
    got = members[0].payloads() + members[1].payloads()
    assert sorted(got, key=int) == sent, got


@case("topic alias in")
async def alias_in(context):
    peer = await context.open("peer")
    if not peer.connack.get("topic_alias_maximum", [0])[0]:
        raise NotOffered("no alias maximum")
    await peer.subscribe(context.topic())
    for topic in (context.topic(), "", ""):
        await peer.publish(topic, "text", topic_alias=1)
    await peer.expect(["text"] * 3)


@case("topic alias out")
async def alias_out(context):
    peer = await context.open("peer", topic_alias_maximum=10)
    await peer.subscribe(context.topic())
    for payload in ("1", "2", "3"):
        await peer.publish(context.topic(), payload)
    await peer.expect(["1", "2", "3"])
    assert {topic for topic, _, _, _ in peer.messages} == {context.topic()}
    if not any("topic_alias" in properties for _, _, _, properties in peer.messages):
        raise NotOffered("no message came with an alias")


@case("user properties")
async def user_properties(context):
    peer = await context.open("peer")
    await peer.subscribe(context.topic())
    given = [("b", "1"), ("a", "2"), ("b", "3")]
    await peer.publish(context.topic(), "text", user_property=given)
    await peer.expect(["text"])
    assert [tuple(pair) for pair in peer.messages[0][3]["user_property"]] == given


@case("message expiry")
async def message_expiry(context):
    peer = await context.lasting("peer")
    await peer.subscribe(context.topic())
    await peer.disconnect()
    publisher = await context.open("publisher")
    for payload, seconds in (("short", 1), ("long", 100)):
        await publisher.publish(context.topic(), payload, message_expiry_interval=seconds)
    await asyncio.sleep(2.1)  # what the case is about
    again = await context.lasting("peer")
    await again.expect(["long"])
    assert 80 <= again.messages[0][3]["message_expiry_interval"][0] <= 98


@case("session expiry")
async def session_expiry(context):
    for name, seconds in (("kept", 60), ("lapsed", 1)):
        await (await context.lasting(name, seconds)).drop()
    await asyncio.sleep(2.6)  # what the case is about
    assert (await context.lasting("kept")).session_present, "60 s ended early"
    assert not (await context.lasting("lapsed")).session_present, "1 s did not end"


@case("subscription identifier")
async def identifier(context):
    peer = await context.open("peer")
    await peer.subscribe(context.topic(), subscription_identifier=268_435_455)
    await peer.publish(context.topic(), "text")
    await peer.expect(["text"])
    assert peer.messages[0][3]["subscription_identifier"] == [268_435_455]


@case("no-local")
async def no_local(context):
    peer, other = await context.open("peer"), await context.open("other")
    await peer.subscribe(context.topic(), no_local=True)
    await peer.publish(context.topic(), "own")
    await other.publish(context.topic(), "of another")
    await peer.expect(["of another"])


@case("retain handling")
async def retain_handling(context):
    publisher = await context.open("publisher")
    await publisher.publish(context.topic("a"), "kept", retain=True)
    for handling, expected in ((0, ["kept", "kept"]), (1, ["kept"]), (2, [])):
        peer = await context.open(f"peer{handling}")
        for _ in range(2):
            await peer.subscribe(context.topic("a"), retain_handling_options=handling)
        await peer.subscribe(context.topic("end"))
        await peer.publish(context.topic("end"), "end")
        await peer.expect([*expected, "end"])


@case("maximum packet size")
async def packet_size(context):
    peer = await context.open("peer", maximum_packet_size=200)
    await peer.subscribe(context.topic())
    publisher = await context.open("publisher")
    for payload in ("x" * 300, "fits"):
        await publisher.publish(context.topic(), payload)
    await peer.expect(["fits"])


@case("receive maximum")
async def receive_maximum(context):
    peer = await context.open("peer", receive_maximum=1)
    await peer.subscribe(context.topic(), 2)
    publisher = await context.open("publisher")
    sent = [str(number) for number in range(20)]
    for number, payload in enumerate(sent):
        await publisher.publish(context.topic(), payload, 1 + number % 2)
    await peer.expect(sent)


@case("request/response")
async def request(context):
    asking, serving = await context.open("asking"), await context.open("serving")
    await asking.subscribe(context.topic("answer"))
    await serving.subscribe(context.topic("question"))
    await asking.publish(context.topic("question"), "?", response_topic=context.topic("answer"),
                         correlation_data=b"\x00\xff\x07")
    await serving.expect(["?"])
    asked = serving.messages[0][3]
    await serving.publish(asked["response_topic"][0], "!",
                          correlation_data=asked["correlation_data"][0])
    await asking.expect(["!"])
    assert asking.messages[0][3]["correlation_data"] == [b"\x00\xff\x07"]


@case("keep-alive")
async def keep_alive(context):
    peer = await context.open("peer", keep_alive=1)
    await asyncio.sleep(3)  # what the case is about
    assert peer.ended is None, "ended although it sent PINGREQ"
    await peer.subscribe(context.topic())


@case("take-over")
async def take_over(context):
    old = await context.lasting("same")
    new = await context.lasting("same")
    await old.wait(lambda: old.ended, "the end of the old connection")
    await new.subscribe(context.topic())
    await new.publish(context.topic(), "text")
    await new.expect(["text"])


@case("payload of 1 MB")
async def large(context):
    peer = await context.open("peer")
    await peer.subscribe(context.topic(), 2)
    payload = bytes(range(250)) * 4000
    for qos in (0, 1, 2):
        await peer.publish(context.topic(), payload, qos)
        await peer.wait(lambda: len(peer.messages) > qos, f"the payload at QoS {qos}")
        assert peer.messages[qos][1] == payload, "another payload"


@case("200 clients")
async def crowd(context):
    peers = await asyncio.gather(*(context.open(str(number)) for number in range(200)))
    topics = [f"foreign/{context.name}-{number}/own" for number in range(200)]
    await asyncio.gather(*(p.subscribe(t) for p, t in zip(peers, topics)))
    await asyncio.gather(*(peer.publish(topics[(number + 1) % 200], str(number))
                           for number, peer in enumerate(peers)))
    await asyncio.gather(*(peer.expect([str((number - 1) % 200)])
                           for number, peer in enumerate(peers)))


@case("$SYS")
async def sys_tree(context):
    peer = await context.open("peer")
    await peer.subscribe("$SYS/#", 0)
    await peer.wait(lambda: peer.messages, "$SYS")


@case("$delayed")
async def delayed(context):
    peer = await context.open("peer")
    await peer.subscribe(context.topic("#"))
    await peer.publish(f"$delayed/1/{context.topic('late')}", "late")
    await peer.publish(context.topic("soon"), "soon")
    await peer.expect(["soon", "late"])
    assert peer.messages[1][0] == context.topic("late")


@case("$exclusive")
async def exclusive(context):
    owner, other = await context.open("owner"), await context.open("other")
    await owner.subscribe(f"$exclusive/{context.topic()}")
    await other.publish(context.topic(), "text")
    await owner.expect(["text"])
    granted = await other.subscribe(f"$exclusive/{context.topic()}")
    assert granted[0] >= 0x80, f"granted twice: {granted}"


async def run(number, feature, function):
    context = Context(number)
    begun = time.monotonic()
    result, fault = "ok", None
    try:
        await function(context)
    except NotOffered as why:
        result, fault = "not offered", str(why)
    except Exception:  # whatever goes wrong is this case's fault and shown with it
        result, fault = "FAIL", traceback.format_exc(limit=-4)
    await context.close()
    seconds = time.monotonic() - begun
    line = {"feature": feature, "result": result, "fault": fault, "seconds": seconds}
    print(json.dumps(line), flush=True)


async def main():
    logging.disable(logging.CRITICAL)
    await asyncio.gather(*(run(n, *each) for n, each in enumerate(CASES)))


if __name__ == "__main__":
    asyncio.run(main())
