"""Tests a broker with client libraries and commands that others wrote.

    run.py --broker target/release/corelane      start it on a free port, test it, stop it
    run.py --address 127.0.0.1:1883              test a running broker
    run.py --mosquitto /usr/sbin/mosquitto       test the tests: against a reference broker

`--only TEXT` keeps the features whose name contains TEXT. Prints the table of this folder's own
cases, the matrix of features by client library, the faults and a closing line; ends with 1 if
anything failed. `--every-client` makes a library that is not installed a fault,
as well as a load harness that was not built.
"""

import argparse
import sys
import time

import broker
import case_access
import case_bytes
import case_commands
import case_count
import case_delivery
import case_properties
import case_providers
import case_retained
import case_session
import case_topics
import case_transport
import case_will
import matrix
import suite

MODULES = (case_delivery, case_retained, case_will, case_session, case_properties, case_bytes,
           case_topics, case_commands, case_count, case_access, case_providers, case_transport)

# Where mosquitto 2.0.11 does something else than the specification asks or allows.
MOSQUITTO_DIFFERS = {
    ("keep-alive time-out", suite.V311),  # looks only every five seconds
    ("keep-alive time-out", suite.V5),
    ("take-over tells the old connection", suite.V5),  # closes without a reason
    ("malformed: PUBREL flags", suite.V5),
    ("malformed: DISCONNECT flags", suite.V5),
    ("malformed: remaining length of five bytes", suite.V5),
    ("malformed: property given twice", suite.V5),
    ("malformed: second CONNECT", suite.V5),
    ("malformed: PINGREQ flags", suite.V311),  # answers
    ("malformed: PINGREQ flags", suite.V5),
    ("malformed: no-local on $share", suite.V5),  # grants it
    ("malformed: PUBLISH with a subscription id", suite.V5),  # takes it
    ("malformed: topic alias 0", suite.V5),  # 0x81
    ("malformed: packet that only servers send", suite.V311),  # takes it
    ("malformed: packet that only servers send", suite.V5),
    # Of corelane alone.
    *((feature, version) for feature in ("$delayed comes later, as told", "$exclusive is for one",
                                         "$delayed by mosquitto_pub", "$exclusive by mosquitto_sub")
      for version in (suite.V31, suite.V311, suite.V5)),
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--broker", metavar="PATH", help="corelane's binary")
    what.add_argument("--address", metavar="HOST:PORT", help="a running broker")
    what.add_argument("--mosquitto", metavar="PATH", help="mosquitto's binary")
    parser.add_argument("--shards", type=int, default=2, help="shards of --broker, default 2")
    parser.add_argument("--only", metavar="TEXT", default="", help="features to run")
    parser.add_argument("--every-client", action="store_true", help="leave no library out")
    return parser.parse_args()


def start(asked):
    if asked.broker:
        return broker.corelane(asked.broker, asked.shards)
    if asked.mosquitto:
        return broker.mosquitto(asked.mosquitto)
    host, port = asked.address.rsplit(":", 1)
    return broker.Running(host.strip("[]"), int(port))


def main():
    asked = arguments()
    begun = time.monotonic()
    cases = [c for c in suite.CASES if asked.only.lower() in c.feature.lower()]
    if not cases and not any(asked.only.lower() in f.lower() for f in matrix.SHOWN_BY):
        sys.exit(f"no feature contains {asked.only!r}")
    driven = []
    under_test = start(asked)
    if not under_test.binary:
        cases = [c for c in cases if c.function.__module__ not in ("case_access", "case_transport")]
    if not case_count.harness(under_test):
        if asked.every_client and asked.broker:
            under_test.stop()
            sys.exit("corelane-loadtest is not beside the broker: cargo build -p corelane-loadtest")
        print("corelane-loadtest is not beside the broker: its counts are left out")
        cases = [c for c in cases if c.function is not case_count.counts]
    last = suite.Case(None, "orderly end on SIGTERM", "process", "", True)
    try:
        suite.run(under_test, cases)
        if not asked.mosquitto:  # the reference differs there in ways that nobody has sorted out
            driven = matrix.run_drivers(under_test.address, asked.only.lower(), asked.every_client)
    finally:
        last.fault = under_test.stop()
    if not asked.address:
        cases.append(last)
    suite.table(cases, MOSQUITTO_DIFFERS if asked.mosquitto else {})
    matrix.report(cases + driven)
    good = suite.report(cases + driven, MOSQUITTO_DIFFERS if asked.mosquitto else {})
    print(f"took {time.monotonic() - begun:.1f} s", file=sys.stderr)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
