"""Who comes in and what they may do, with the example of docs/OPERATING.md."""

import pathlib
import re
import signal
import subprocess
import tempfile

import broker
from case_commands import Subscriber, common
from peer import Peer
from suite import ANSWER_S, MOSQUITTO, PAHO, V5, Context, case

GUIDE = pathlib.Path(__file__).parents[2] / "docs" / "OPERATING.md"


def example(name):
    """The fenced block of the guide that stands behind `<!-- example: name -->`."""
    found = re.search(rf"<!-- example: {re.escape(name)} -->\n+```\w*\n(.*?)```", GUIDE.read_text(),
                      re.DOTALL)
    assert found, f"{GUIDE} has no example {name}"
    return found[1]


class Guarded(Context):
    """A context with a broker of its own, set up as the guide says."""

    def __init__(self, outer, name):
        self.folder = tempfile.TemporaryDirectory()
        self.place = pathlib.Path(self.folder.name)
        self.binary = str(pathlib.Path(outer.broker.binary).resolve())
        self.outer = outer
        self.opened = []
        self.started = None
        self.name_of_example = name

    def command(self, *arguments, text=None):
        return subprocess.run([self.binary, *arguments], cwd=self.place, input=text, text=True,
                              capture_output=True, timeout=ANSWER_S)

    def passwd(self, *arguments, text="secret"):
        done = self.command("passwd", *arguments, text=text)
        assert done.returncode == 0, done.stderr

    def start(self):
        config = example(self.name_of_example)
        config, replaced = re.subn(r'address = "[^"]*:\d+"', 'address = "ADDRESS"', config, count=1)
        assert replaced == 1, config

        def command(host, port):
            text = self.changed(config.replace("ADDRESS", f"{host}:{port}"))
            (self.place / "corelane.toml").write_text(text)
            return [self.binary, "--config", str(self.place / "corelane.toml"), "--shards", "2"]

        self.started = broker.Started(command)
        self.begin()
        return self

    def changed(self, config):
        """The configuration, changed where a case needs that."""
        return config

    def begin(self):
        super().__init__(self.started, self.outer.case)

    def hang_up(self):
        """Makes the broker read its files again and waits until it says so."""
        before = self.started.output().count("was read again")
        self.started.process.send_signal(signal.SIGHUP)
        for _ in range(400):
            if self.started.output().count("was read again") > before:
                return
            self.elapse(0.02)
        raise AssertionError(f"not read again:\n{self.started.output()}")

    def close(self):
        super().close()
        if not self.started:
            return self.folder.cleanup()
        fault = self.started.process.poll() is None and self.started.stop()
        output = self.started.output()
        self.folder.cleanup()
        assert not fault, fault
        assert "secret" not in output, f"a password in the log:\n{output}"


def refused(context, user, password):
    """The words of the CONNACK that refuses a client."""
    command = ["mosquitto_pub", *common(context), "-t", "x", "-m", "x", "-u", user, "-P", password]
    done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S)
    assert done.returncode != 0, "it was let in"
    return done.stderr


def named(context, name, user, password="secret"):
    return Peer(context, name, credentials=(user, password))


@case("password file and rules of the guide", MOSQUITTO, alone=True)
def guide(outer):
    context = Guarded(outer, "password_file")
    context.passwd("users.txt", "ann", "--groups", "staff")
    context.passwd("users.txt", "meter-1")
    # A line that mosquitto's own tool wrote, as after a change of brokers.
    beside = context.place / "old.txt"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(beside), "old", "secret"], check=True,
                   timeout=ANSWER_S, capture_output=True)
    with open(context.place / "users.txt", "a", encoding="utf-8") as users:
        users.write(beside.read_text())
    context.start()
    try:
        follow_guide(context)
    finally:
        context.close()


def follow_guide(context):
    for user, password in (("ann", "wrong"), ("nobody", "secret"), ("ann", "")):
        words = refused(context, user, password).lower()
        assert "bad user name or password" in words or "not authori" in words, words
    credentials = ["-u", "ann", "-P", "secret"]
    watcher = Subscriber(context, *credentials, "-t", "meters/#", "-C", "2", "-W", "8", "-F", "%t")
    for user, topic in (("meter-1", "meters/meter-1/power"), ("meter-1", "meters/meter-2/power"),
                        ("old", "meters/old/power")):
        command = ["mosquitto_pub", *common(context), "-u", user, "-P", "secret", "-q", "1", "-t",
                   topic, "-m", "1"]
        subprocess.run(command, check=False, timeout=ANSWER_S, capture_output=True)
    assert watcher.lines() == ["meters/meter-1/power", "meters/old/power"]
    command = ["mosquitto_sub", *common(context), "-u", "meter-1", "-P", "secret", "-t", "meters/#",
               "-C", "1", "-W", "4"]
    denied = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S)
    assert "denied" in denied.stderr, denied
    said = context.command("acl", "explain", "--config", "corelane.toml", "--user", "meter-1",
                           "--action", "subscribe", "--topic", "meters/#")
    assert said.returncode == 1 and said.stdout.startswith("denied: "), said


@case("users and rules change at SIGHUP", PAHO, (V5,), alone=True)
def reload(outer):
    context = Guarded(outer, "password_file")
    context.passwd("users.txt", "ann", "--groups", "staff")
    context.passwd("users.txt", "meter-1")
    context.start()
    try:
        follow_reload(context)
    finally:
        context.close()


def follow_reload(context):
    ann, meter = named(context, "ann", "ann"), named(context, "m", "meter-1")
    ann.subscribe("meters/#", 1)
    assert meter.publish("meters/meter-1/a", "one", 1).value == 0
    ann.expect(["one"])
    config = context.place / "corelane.toml"
    config.write_text(config.read_text().replace("meters/%u/#", "elsewhere/%u/#"))
    context.passwd("users.txt", "meter-1", text="other secret")
    context.hang_up()
    assert meter.publish("meters/meter-1/a", "two", 1).value == 0x87, "the rule is gone"
    assert "bad user name" in refused(context, "meter-1", "secret").lower()
    named(context, "m2", "meter-1", "other secret").close()
    # A fault keeps what runs.
    good = config.read_text()
    config.write_text(good + "\n[[acl]]\neffect = \"allow\"\n")
    context.started.process.send_signal(signal.SIGHUP)
    for _ in range(400):
        if "nothing was taken over" in context.started.output():
            break
        context.elapse(0.02)
    assert meter.publish("elsewhere/meter-1/a", "three", 1).value in (0, 0x10)
