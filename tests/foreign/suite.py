"""The list of cases and how they are run: a case is a function of one client library and one
protocol version; it passes when it returns."""

import concurrent.futures
import time
import traceback

V31, V311, V5 = "3.1", "3.1.1", "5"
PAHO, MOSQUITTO, SOCKET = "paho", "mosquitto", "socket"
ANSWER_S = 8.0
WORKERS = 8


class Case:
    """One cell of the table."""

    def __init__(self, function, feature, client, version, alone):
        self.function = function
        self.feature = feature
        self.client = client
        self.version = version
        self.alone = alone
        self.fault = None
        self.offered = True
        self.seconds = 0.0

    def run(self, broker):
        begun = time.monotonic()
        context = Context(broker, self)
        try:
            self.function(context)
        except Exception:  # whatever goes wrong is this case's fault and shown with it
            self.fault = traceback.format_exc(limit=-4)
        finally:
            context.close()
        self.seconds = time.monotonic() - begun


CASES = []


def case(feature, client, versions=(V311, V5), alone=False):
    """Registers a function as one case for each version."""

    def register(function):
        CASES.extend(Case(function, feature, client, version, alone) for version in versions)
        return function

    return register


class Context:
    """What a case works with: the broker's address and names that no other case uses.

    All topics of a case share their first two levels, so that one owner orders them.
    """

    serial = 0

    def __init__(self, broker, of_case):
        Context.serial += 1
        self.broker = broker
        self.case = of_case
        self.host, self.port = broker.address
        self.version = of_case.version
        self.name = f"c{Context.serial}"
        self.opened = []

    def topic(self, *levels):
        return "/".join(["foreign", self.name, *levels])

    def client_id(self, name):
        return f"{self.name}-{name}"

    def keep(self, closable):
        self.opened.append(closable)
        return closable

    def close(self):
        for closable in self.opened:
            closable.close()

    @staticmethod
    def elapse(seconds):
        """Lets time pass that the case is about: an expiry or a delay, never "settling"."""
        time.sleep(seconds)


def run(broker, cases):
    """Runs the cases side by side, then those that want the broker for themselves."""
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(lambda each: each.run(broker), [c for c in cases if not c.alone]))
    for each in cases:
        if each.alone:
            each.run(broker)


def known_to_differ(cases, differs):
    return [c for c in cases if c.fault and (c.feature, c.version) in differs]


def table(cases, differs):
    """Prints every case's cell. `differs` names the features in which a reference broker is known
    to differ."""
    columns = sorted({(c.client, c.version) for c in cases})
    features = list(dict.fromkeys(c.feature for c in cases))
    width = max(map(len, features))
    heads = [f"{client} {version}" for client, version in columns]
    print("".ljust(width), *heads, sep="  ")
    known = known_to_differ(cases, differs)
    for feature in features:
        cells = [next((c for c in cases if (c.feature, c.client, c.version) == (feature, *column)),
                      None) for column in columns]
        words = ["-" if c is None else "ok" if not c.fault else "differs" if c in known else "FAIL"
                 for c in cells]
        print(feature.ljust(width),
              *[word.ljust(len(head)) for word, head in zip(words, heads)], sep="  ")


def report(cases, differs):
    """Prints every fault, what has become known and the closing line; returns whether all is
    well."""
    known = known_to_differ(cases, differs)
    failed = [c for c in cases if c.fault and c not in known]
    for each in failed:
        print(f"\n{each.feature} ({each.client} {each.version}):\n{each.fault}")
    print()
    slow = max(cases, key=lambda c: c.seconds)
    print(f"slowest: {slow.feature} ({slow.client} {slow.version}) {slow.seconds:.1f} s")
    for each in cases:
        if (each.feature, each.version) in differs and not each.fault:
            print(f"no longer differs: {each.feature} ({each.version})")
    skipped = f", {len(known)} skipped" if known else ""
    print(f"{len(cases) - len(failed) - len(known)} passed, {len(failed)} failed{skipped}")
    return not failed
