"""What corelane-loadtest says it moved, against a count by mosquitto_sub and by the broker."""

import json
import pathlib
import subprocess
import tempfile

import broker
from case_commands import Subscriber, publish
from suite import MOSQUITTO, V311, Context, case

RUN_S = 60
# $SYS every second, so that its last counts need not be waited for; room for all that a slow
# mosquitto_sub has not read.
CONFIG = """
[runtime]
shards = 1
[sys]
interval_s = 1
[session]
outbox_messages = 100000
outbox_bytes = 104857600
late_messages = 65536
"""
# Most messages of $SYS itself from one of its rounds to the next.
OWN = 10
# Ten publishers, 400 messages a second each, and two subscribers of everything: in is 4,000/s, out
# twice that, and mosquitto_sub's own copies besides.
SCENARIO = """
seconds = 3
warmup_s = 0
patience_s = 20
[[group]]
name = "readers"
role = "subscribe"
count = 2
topics = ["{topic}"]
qos = 1
[[group]]
name = "writers"
role = "publish"
count = 10
topics = ["{prefix}/{{i}}"]
qos = {qos}
rate = 400
"""


def harness(of_broker):
    """The load harness that was built beside the broker; None for a broker of others."""
    beside = of_broker.binary and pathlib.Path(of_broker.binary).with_name("corelane-loadtest")
    return beside if beside and beside.exists() else None


class Counting(Context):
    """A context with a broker of its own, whose counters nobody else moves."""

    def __init__(self, outer):
        self.folder = tempfile.TemporaryDirectory()
        self.config = self.file("corelane.toml", CONFIG)
        binary = outer.broker.binary
        self.started = broker.Started(lambda host, port: [
            binary, "--config", self.config, "--listen", f"{host}:{port}"])
        super().__init__(self.started, outer.case)

    def file(self, name, text):
        path = pathlib.Path(self.folder.name, name)
        path.write_text(text)
        return str(path)

    def moved(self):
        """PUBLISH packets received and sent, as the broker tells once it is at rest: when two
        rounds of `$SYS`, a second apart, tell the same but for their own messages."""
        watched = ["-t", "$SYS/broker/messages/received", "-t", "$SYS/broker/messages/sent"]
        watcher = Subscriber(self, *watched, "-W", str(RUN_S), "-F", "%t %p")
        told, last = {}, None
        while True:
            topic, count = watcher.await_line("$SYS").split()
            told[topic.rsplit("/", 1)[1]] = int(count)
            if topic.endswith("/sent") and len(told) == 2:
                found = told["received"], told["sent"]
                if last and found[0] == last[0] and found[1] - last[1] <= OWN:
                    watcher.close()
                    return found
                last = found

    def close(self):
        super().close()
        self.folder.cleanup()
        fault = self.started.stop()
        assert not fault, fault


def near(what, count, expected):
    assert expected > 1000, f"{what}: only {expected} to compare with"
    assert abs(count - expected) <= 0.05 * expected, f"{what}: {count} instead of {expected}"


def cross_check(context, qos):
    prefix = context.topic(f"q{qos}")
    scenario = SCENARIO.format(topic=f"{prefix}/+", prefix=prefix, qos=qos)
    received, sent = context.moved()
    witness = Subscriber(context, "-t", f"{prefix}/+", "-q", str(qos), "-W", str(RUN_S), "-F", "%l")
    command = [context.harness, "run", context.file(f"q{qos}.toml", scenario), "--json",
               "--address", f"{context.host}:{context.port}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S)
    assert done.returncode in (0, 2), f"{done}"  # 2: passed, but the generator was late
    publish(context, "-t", f"{prefix}/end", "-m", "the end of it", "-q", "1")
    lines = 0
    while (line := witness.await_line("").strip()) != str(len("the end of it")):
        lines += line == "64"  # the others are of its own -d
    outcome = json.loads(done.stdout.splitlines()[-1])
    said_in = sum(second["sent"] for second in outcome["series"])
    said_out = sum(second["received"] for second in outcome["series"])
    received_then, sent_then = context.moved()
    print(f"QoS {qos}: harness {said_in} in, {said_out} out; mosquitto_sub {lines}; "
          f"$SYS {received_then - received} in, {sent_then - sent} out")
    near("harness's out by mosquitto_sub's count", said_out, 2 * lines)
    near("harness's in by $SYS", said_in, received_then - received)
    near("harness's and mosquitto_sub's out by $SYS", said_out + lines, sent_then - sent)


@case("counts of corelane-loadtest", MOSQUITTO, (V311,), alone=True)
def counts(outer):
    context = Counting(outer)
    context.harness = str(harness(outer.broker))
    try:
        for qos in (0, 1):
            cross_check(context, qos)
    finally:
        context.close()
