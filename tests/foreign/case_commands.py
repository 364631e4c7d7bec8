"""mosquitto_pub and mosquitto_sub, as people use them in a shell."""

import subprocess

from peer import Peer
from suite import ANSWER_S, MOSQUITTO, V31, V311, V5, case

ALL = (V31, V311, V5)
NAMES = {V31: "mqttv31", V311: "mqttv311", V5: "mqttv5"}


class Subscriber:
    """A mosquitto_sub that has been granted its subscription."""

    def __init__(self, context, *arguments):
        command = ["stdbuf", "-oL", "mosquitto_sub", *common(context), "-d", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True,
                                        stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        context.keep(self)
        self.await_line("Subscribed")

    def await_line(self, start):
        for line in self.process.stdout:  # ends at the latest with the command's own -W
            if line.startswith(start):
                return line
        raise AssertionError(f"mosquitto_sub ended before {start!r}")

    def lines(self):
        """What it printed of messages until it ended by its own count."""
        # Not communicate(): it would miss what await_line has read ahead.
        out = self.process.stdout.read()
        code = self.process.wait(ANSWER_S)
        assert code == 0, f"mosquitto_sub: {code}\n{out}"
        return [line for line in out.splitlines() if not line.startswith("Client ")]

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def common(context):
    return ["-h", context.host, "-p", str(context.port), "-V", NAMES[context.version]]


def publish(context, *arguments, lines=None):
    command = ["mosquitto_pub", *common(context), *arguments]
    done = subprocess.run(command, input=lines, text=True, capture_output=True, timeout=ANSWER_S)
    assert done.returncode == 0, done.stderr


@case("mosquitto_pub to mosquitto_sub, QoS 0/1/2", MOSQUITTO, ALL)
def pipe(context):
    lines = [f"line {number}" for number in range(20)]
    for qos in "012":
        topic = context.topic(qos)
        subscriber = Subscriber(context, "-t", topic, "-q", qos, "-C", "20", "-W", "8",
                                "-F", "%q %r %t %p")
        publish(context, "-t", topic, "-q", qos, "-l", lines="\n".join(lines) + "\n")
        assert subscriber.lines() == [f"{qos} 0 {topic} {line}" for line in lines]


@case("retained by mosquitto_pub -r", MOSQUITTO)
def retained(context):
    publish(context, "-t", context.topic("a"), "-m", "kept", "-r", "-q", "1")
    subscriber = Subscriber(context, "-t", context.topic("+"), "-C", "1", "-W", "8", "-F", "%r %p")
    assert subscriber.lines() == ["1 kept"]
    publish(context, "-t", context.topic("a"), "-n", "-r")
    subscriber = Subscriber(context, "-t", context.topic("+"), "-C", "1", "-W", "8", "-F", "%r %p")
    publish(context, "-t", context.topic("a"), "-m", "live")
    assert subscriber.lines() == ["0 live"]


@case("will of a killed mosquitto_sub", MOSQUITTO)
def will(context):
    watching = Peer(context, "watcher")
    watching.subscribe(context.topic("will"), 1)
    Subscriber(context, "-t", context.topic(), "-W", "8", "--will-topic", context.topic("will"),
               "--will-payload", "gone", "--will-qos", "1").process.kill()
    watching.expect(["gone"])


@case("session of mosquitto_sub -c", MOSQUITTO)
def session(context):
    lasting = ["-i", context.client_id("s"), "-c", "-q", "1", "-t", context.topic()]
    if context.version == V5:
        lasting += ["-x", "60"]
    subscriber = Subscriber(context, *lasting, "-C", "1", "-W", "8", "-F", "%p")
    publish(context, "-t", context.topic(), "-m", "one", "-q", "1")
    assert subscriber.lines() == ["one"]
    publish(context, "-t", context.topic(), "-q", "1", "-l", lines="two\nthree\n")
    command = ["mosquitto_sub", *common(context), *lasting, "-C", "2", "-W", "8", "-F", "%p"]
    done = subprocess.run(command, text=True, capture_output=True, timeout=ANSWER_S + 4)
    assert done.stdout.splitlines() == ["two", "three"], done


@case("properties by mosquitto_pub -D", MOSQUITTO, (V5,))
def properties(context):
    subscriber = Subscriber(context, "-t", context.topic(), "-C", "1", "-W", "8", "-F",
                            "%C|%R|%D|%P|%p")
    publish(context, "-t", context.topic(), "-m", "text", "-D", "publish", "content-type", "json",
            "-D", "publish", "response-topic", "answer", "-D", "publish", "correlation-data", "c1",
            "-D", "publish", "user-property", "b", "1", "-D", "publish", "user-property", "a", "2")
    assert subscriber.lines() == ["json|answer|c1|b:1 a:2|text"]


@case("shared subscription of mosquitto_sub", MOSQUITTO)
def shared(context):
    group = f"$share/{context.name}/{context.topic()}"
    subscriber = Subscriber(context, "-t", group, "-q", "1", "-C", "5", "-W", "8", "-F", "%p")
    publish(context, "-t", context.topic(), "-q", "1", "-l", lines="1\n2\n3\n4\n5\n")
    assert subscriber.lines() == ["1", "2", "3", "4", "5"]


@case("$SYS by mosquitto_sub", MOSQUITTO, ALL)
def sys(context):
    subscriber = Subscriber(context, "-t", "$SYS/broker/uptime", "-C", "1", "-W", "15", "-F", "%t")
    assert subscriber.lines() == ["$SYS/broker/uptime"]


@case("$delayed by mosquitto_pub", MOSQUITTO, ALL)
def delayed(context):
    subscriber = Subscriber(context, "-t", context.topic("+"), "-q", "1", "-C", "2", "-W", "8",
                            "-F", "%t %p")
    publish(context, "-t", f"$delayed/1/{context.topic('late')}", "-m", "late", "-q", "1")
    publish(context, "-t", context.topic("soon"), "-m", "soon", "-q", "1")
    assert subscriber.lines() == [f"{context.topic('soon')} soon", f"{context.topic('late')} late"]


@case("$exclusive by mosquitto_sub", MOSQUITTO)
def exclusive(context):
    name = f"$exclusive/{context.topic()}"
    owner = Subscriber(context, "-t", name, "-q", "1", "-C", "1", "-W", "8", "-F", "%p")
    command = ["mosquitto_sub", *common(context), "-t", name, "-C", "1", "-W", "8"]
    other = subprocess.run(command, text=True, capture_output=True, timeout=ANSWER_S)
    assert "denied" in other.stderr and not other.stdout, other
    publish(context, "-t", context.topic(), "-m", "for one", "-q", "1")
    assert owner.lines() == ["for one"]
