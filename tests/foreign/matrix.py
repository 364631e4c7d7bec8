"""The matrix: feature by client library and protocol version. The cases of run.py's own libraries
are gathered under the feature they show; programs that drive libraries of other languages report
the same features themselves."""

import json
import pathlib
import shutil
import subprocess
import sys
import time

from suite import MOSQUITTO, PAHO, SOCKET, V31, V311, V5, Case

GMQTT, MQTTJS, RUMQTTC = "gmqtt", "mqtt.js", "rumqttc"
HERE = pathlib.Path(__file__).parent
NODE = HERE.parent.parent / "target" / "foreign-node"
DRIVER_S = 60
BUILD_S = 900  # rumqttc's program is one of cargo's tests and may have to be built

# Which cases of this folder show a feature.
SHOWN_BY = {
    "connect": ("every case connects",),
    "clean session": ("clean session ends with its connection", "clean start discards the session"),
    "persistent session": ("session resumed with queued QoS 1 and 2",
                           "session of mosquitto_sub -c"),
    "QoS 0": ("QoS 0/1/2 to every granted QoS, exactly",
              "mosquitto_pub to mosquitto_sub, QoS 0/1/2"),
    "QoS 1": ("QoS 0/1/2 to every granted QoS, exactly",
              "mosquitto_pub to mosquitto_sub, QoS 0/1/2",
              "unacknowledged QoS 1 is resent with DUP"),
    "QoS 2": ("QoS 0/1/2 to every granted QoS, exactly",
              "mosquitto_pub to mosquitto_sub, QoS 0/1/2", "QoS 2 goes on where it stopped",
              "QoS 2 sent twice arrives once"),
    "retained": ("retained: set, replace, clear", "retained by mosquitto_pub -r"),
    "will": ("will after a lost connection", "will of a killed mosquitto_sub"),
    "password and rules": ("password file and rules of the guide",
                           "users and rules change at SIGHUP"),
    "TLS": ("TLS 1.2 and 1.3, and nothing older", "client certificates are asked for and name the user"),
    "WebSocket": ("WebSocket, plain and over TLS", "a page in a browser"),
    "will delay": ("will delay", "will delay ends with the session"),
    "shared subscription": ("$share: each message to one member",
                            "shared subscription of mosquitto_sub"),
    "topic alias in": ("topic alias inbound",),
    "topic alias out": ("topic alias outbound",),
    "user properties": ("properties pass through unaltered, in order",
                        "properties by mosquitto_pub -D"),
    "message expiry": ("message expiry while queued", "retained: message expiry"),
    "session expiry": ("session expiry", "session expiry changed by DISCONNECT"),
    "subscription identifier": ("subscription identifier",),
    "no-local": ("no-local",),
    "retain handling": ("retain handling 0/1/2",),
    "maximum packet size": ("client's maximum packet size",),
    "receive maximum": ("receive maximum 1 and slow acknowledgements",
                        "receive maximum 1 holds back the second"),
    "request/response": ("properties pass through unaltered, in order",
                         "properties by mosquitto_pub -D"),
    "keep-alive": ("keep-alive time-out", "keep-alive is fed by any packet"),
    "take-over": ("take-over ends the old connection", "take-over tells the old connection"),
    "payload of 1 MB": ("payload of 1,000,000 bytes",),
    "200 clients": ("200 clients, 20 QoS 1 messages each",),
    "$SYS": ("$SYS tells of the broker", "$SYS by mosquitto_sub"),
    "$delayed": ("$delayed comes later, as told", "$delayed by mosquitto_pub"),
    "$exclusive": ("$exclusive is for one", "$exclusive by mosquitto_sub"),
}
COLUMNS = ((PAHO, V31), (PAHO, V311), (PAHO, V5), (MOSQUITTO, V31), (MOSQUITTO, V311),
           (MOSQUITTO, V5), (SOCKET, V311), (SOCKET, V5), (MQTTJS, V31), (MQTTJS, V311),
           (MQTTJS, V5), (GMQTT, V5), (RUMQTTC, V311), (RUMQTTC, V5))


def drivers(address):
    """Each library's name, the versions of each run of its program, whether what it needs is there,
    and the command. A program of several versions says of which one a line is."""
    host, port = address
    node = NODE / "node_modules" / "mqtt"
    yield MQTTJS, ((V31,), (V311,), (V5,)), node.is_dir(), lambda version: [
        "node", str(HERE / "mqttjs.mjs"), host, str(port), version, str(NODE)]
    yield GMQTT, ((V5,),), has_gmqtt(), lambda _: [
        sys.executable, str(HERE / "gmqtt_driver.py"), host, str(port)]
    # As `cargo test --workspace` builds it, so that nothing is built twice.
    yield RUMQTTC, ((V311, V5),), shutil.which("cargo") is not None, lambda *_: [
        "env", f"CORELANE_TEST_ADDRESS={host}:{port}", "cargo", "test", "-q", "--workspace",
        "--test", "foreign_rumqttc", "--", "--nocapture"]


def has_gmqtt():
    try:
        import gmqtt  # only whether it is there
    except ImportError:
        return False
    return bool(gmqtt)


def run_drivers(address, only, every):
    """Runs the programs one after the other; returns their cases. A library that is not installed
    is left out with a word, or, with `every`, is a fault."""
    cases = []
    for client, versions, present, command in drivers(address):
        if present or every:
            for some in versions:
                cases += run_driver(client, some, command(*some))
        else:
            print(f"{client} is not installed and left out; .ci/run shows how", file=sys.stderr)
    return [c for c in cases if only in c.feature.lower()]


def run_driver(client, versions, command):
    begun = time.monotonic()
    whole = Case(None, "the program ends", client, versions[-1], True)
    found = []
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=BUILD_S if client == RUMQTTC else DRIVER_S, cwd=HERE)
        whole.fault = done.stderr if done.returncode else None
        for line in done.stdout.splitlines():
            if not line.startswith("{"):
                continue  # what a test harness says
            said = json.loads(line)
            one = Case(None, said["feature"], client, said.get("version", versions[0]), False)
            one.seconds = said["seconds"]
            one.offered = said["result"] != "not offered"
            one.fault = said["fault"] if said["result"] == "FAIL" else None
            found.append(one)
        unknown = {one.feature for one in found} - set(SHOWN_BY)
        whole.fault = whole.fault or (f"features not in the matrix: {unknown}" if unknown else None)
        silent = set(versions) - {one.version for one in found}
        whole.fault = whole.fault or (f"it reported nothing of {silent}" if silent else None)
    except (OSError, ValueError, subprocess.TimeoutExpired) as fault:
        whole.fault = str(fault)
    whole.seconds = time.monotonic() - begun
    return [*found, whole]


def cell(feature, client, version, cases):
    """ok, FAIL, n/o (the broker does not offer it) or – (the library can't, or is not asked)."""
    mine = [c for c in cases if (c.client, c.version) == (client, version)]
    if feature == "connect" and client in (PAHO, MOSQUITTO, SOCKET):
        # Every case connects: one that passed shows it.
        shown = [c for c in mine if not c.fault] or mine
        shown = shown[:1]
    else:
        shown = [c for c in mine if c.feature == feature or c.feature in SHOWN_BY[feature]]
    if not shown:
        return "–"
    if any(c.fault for c in shown):
        return "FAIL"
    return "ok" if all(c.offered for c in shown) else "n/o"


def report(cases):
    """Prints the matrix as a Markdown table."""
    heads = ["feature", *(f"{client} {version}" for client, version in COLUMNS)]
    rows = [[feature, *(cell(feature, *column, cases) for column in COLUMNS)]
            for feature in SHOWN_BY]
    rows = [row for row in rows if set(row[1:]) != {"–"}]
    widths = [max(len(row[at]) for row in [heads, *rows]) for at in range(len(heads))]
    print()
    for row in [heads, ["-" * width for width in widths], *rows]:
        print("| " + " | ".join(word.ljust(width) for word, width in zip(row, widths)) + " |")
    print("\nn/o: the broker does not offer it; –: not with this client")
