"""What topics mean beyond the standard: $SYS, $delayed, $exclusive."""

import time

from peer import Peer
from suite import ANSWER_S, PAHO, V31, V311, V5, case

ALL = (V31, V311, V5)
# A broker that has just started tells nothing before its first interval of ten seconds.
SYS_S = 15


@case("$SYS tells of the broker", PAHO, ALL)
def sys(context):
    peer = Peer(context, "peer")
    peer.subscribe("$SYS/broker/uptime", 0)
    peer.wait(lambda: peer.messages, "$SYS/broker/uptime", SYS_S)
    assert peer.messages[0].topic == "$SYS/broker/uptime" and peer.messages[0].payload
    peer.publish("$SYS/broker/uptime", "forged", 0)
    peer.subscribe(context.topic(), 1)
    peer.publish(context.topic(), "end", 1)
    peer.wait(lambda: peer.payloads(context.topic()) == ["end"], "the end")
    assert "forged" not in peer.payloads(), peer.payloads()


@case("$delayed comes later, as told", PAHO, ALL)
def delayed(context):
    peer = Peer(context, "peer")
    peer.subscribe(context.topic("#"), 2)
    for qos in (0, 1, 2):
        peer.publish(f"$delayed/2/{context.topic('late')}", f"late {qos}", qos)
    peer.publish(f"$delayed/1/{context.topic('soon')}", "soon", 1)
    peer.publish(context.topic("now"), "now", 1)
    peer.expect(["now", "soon", "late 0", "late 1", "late 2"])
    assert [m.topic for m in peer.messages[:3]] == [context.topic(t) for t in
                                                     ("now", "soon", "late")]
    assert [m.qos for m in peer.messages[2:]] == [0, 1, 2]
    assert not any(m.retain for m in peer.messages)


@case("a refused message is explained", PAHO, (V5,))
def explained(context):
    peer = Peer(context, "peer")
    # Of a QoS 2 message paho tells the PUBCOMP only.
    reason = peer.publish(f"$delayed/never/{context.topic('late')}", "text", 1)
    assert reason.value == 0x90, reason
    assert peer.publish(context.topic("nobody"), "text", 1).value in (0x00, 0x10)
    texts = [peer.explanations[mid] for mid in sorted(peer.explanations)]
    assert "may not publish" in texts[0] and texts[1] is None, texts


@case("$exclusive is for one", PAHO, (V311, V5))
def exclusive(context):
    owner, other = Peer(context, "owner"), Peer(context, "other")
    name = f"$exclusive/{context.topic('+')}"
    assert [code.value for code in owner.subscribe(name, 1)] == [1]
    refused = other.subscribe(name, 1)
    assert all(code.is_failure for code in refused), refused
    other.publish(context.topic("a"), "for one", 1)
    owner.expect(["for one"])
    owner.unsubscribe(name)
    # The core that knows who has it hears of the end a moment later.
    deadline = time.monotonic() + ANSWER_S
    while [code.value for code in other.subscribe(name, 1)] != [1]:
        assert time.monotonic() < deadline, "never free again"
    owner.publish(context.topic("a"), "for the other", 1)
    other.expect(["for the other"])
    owner.expect(["for one"])
