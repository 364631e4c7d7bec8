"""Tokens made by PyJWT, a web service that is slow or dead, and SCRAM by MQTT.js, on the examples of
docs/OPERATING.md."""

import json
import pathlib
import re
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import broker
import jwt
from case_access import Guarded, named, refused
from case_transport import MQTTJS, openssl
from peer import Peer
from suite import ANSWER_S, PAHO, SOCKET, V5, V311, case

DRIVER = pathlib.Path(__file__).with_name("mqttjs_scram.mjs")
CLAIMS = {"iss": "https://login.example", "aud": "mqtt", "sub": "meter-7"}


def signed(context, key="issuer.key", **claims):
    """A token for an hour, unless the claims say otherwise."""
    claims = {"exp": int(time.time()) + 3600, **CLAIMS, **claims}
    return jwt.encode(claims, (context.place / key).read_text(), algorithm="ES256")


@case("tokens of the guide", PAHO, alone=True)
def tokens(outer):
    context = Guarded(outer, "tokens")
    for name in ("issuer", "stranger"):
        openssl(context.place, "genpkey", "-algorithm", "EC", "-pkeyopt",
                "ec_paramgen_curve:P-256", "-out", f"{name}.key")
        openssl(context.place, "pkey", "-in", f"{name}.key", "-pubout", "-out", f"{name}.pem")
    context.start()
    try:
        follow_tokens(context)
    finally:
        context.close()


def follow_tokens(context):
    now = int(time.time())
    for why, token in (("a stranger's", signed(context, "stranger.key")),
                       ("expired", signed(context, exp=now - 60)),
                       ("not yet", signed(context, nbf=now + 600)),
                       ("for others", signed(context, aud="web")),
                       ("another issuer's", signed(context, iss="https://evil.example")),
                       ("unsigned", jwt.encode(CLAIMS, None, algorithm="none")),
                       ("no token", "secret")):
        words = refused(context, "any", token).lower()
        assert "bad user name" in words or "not authori" in words, (why, words)
    acl = {"pub": ["meters/%u/#"], "sub": ["commands/%u"]}
    name = context.client_id("m")
    meter = named(context, "m", "any", signed(context, acl=acl, clients=[name]))
    meter.subscribe("commands/meter-7", 1)
    free = named(context, "free", "any", signed(context, sub="boss"))
    free.subscribe("#", 1)
    free.publish("commands/meter-7", "go", 1)
    meter.expect(["go"])
    meter.publish("meters/meter-7/a", "mine", 1)
    if context.version == V5:
        assert meter.publish("meters/meter-8/a", "not mine", 1).value == 0x87
    else:
        meter.publish("meters/meter-8/a", "not mine", 1)
    meter.publish("meters/meter-7/b", "mine too", 1)
    free.expect(["go", "mine", "mine too"])
    try:
        named(context, "other", "any", signed(context, clients=[name]))
        raise AssertionError("another client id was let in")
    except AssertionError as fault:
        assert "refused" in str(fault), fault


class Service:
    """A web service that holds answers about "slow" back until it is told to let go."""

    def __init__(self, port):
        self.asked = []
        self.holds = threading.Event()
        self.held = threading.Semaphore(0)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                told = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.asked.append(told)
                if told["user"] == "slow":
                    outer.held.release()
                    outer.holds.wait(ANSWER_S * 6)
                good = told["password"] == "secret"
                body = json.dumps({"groups": ["asked"]}).encode() if good else b""
                self.send_response(200 if good else 403)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.holds.set()
        self.server.shutdown()
        self.server.server_close()


class Asking(Guarded):
    """A broker that asks the service on a port of its own."""

    def start(self):
        self.service_port = broker.free_port()
        return super().start()

    def changed(self, config):
        return re.sub(r"http://127\.0\.0\.1:\d+/", f"http://127.0.0.1:{self.service_port}/", config)


@case("a web service that is slow, dies and comes back", PAHO, (V311, V5), alone=True)
def web_service(outer):
    context = Asking(outer, "web_service")
    context.start()
    services = [Service(context.service_port)]
    try:
        follow_service(context, services)
    finally:
        for service in services:
            service.stop()
        context.close()


def follow_service(context, services):
    service = services[0]
    ann = named(context, "ann", "ann")
    ann.subscribe(context.topic(), 1)
    assert service.asked[0]["user"] == "ann" and service.asked[0]["listener"] == "tcp"
    assert service.asked[0]["address"] == "127.0.0.1" and service.asked[0]["password"] == "secret"
    assert "bad user name" in refused(context, "ann", "wrong").lower()
    # While somebody waits for an answer that does not come, others come in and exchange messages.
    slow = [Peer(context, f"slow-{n}", credentials=("slow", "secret"), connect=False)
            for n in range(3)]
    begun = [threading.Thread(target=attempt, args=(peer,), daemon=True) for peer in slow]
    for thread in begun:
        thread.start()
    for _ in slow:
        assert service.held.acquire(timeout=ANSWER_S), "the service was not asked"
    bob = named(context, "bob", "bob")
    for number in range(20):
        bob.publish(context.topic(), str(number), 1)
    ann.expect([str(number) for number in range(20)])
    assert all(peer.connack is None for peer in slow), "nobody has answered about them"
    # It dies: those about whom it was asked are refused, and so are new ones, at once.
    service.stop()
    for thread in begun:
        thread.join(ANSWER_S)
    for number in range(4):
        words = refused(context, f"late-{number}", "secret").lower()
        assert "unavailable" in words, words
    bob.publish(context.topic(), "still here", 1)
    ann.expect([str(number) for number in range(20)] + ["still here"])
    # It comes back: so do clients, without a restart.
    services[0] = Service(context.service_port)
    for _ in range(200):
        try:
            named(context, f"again-{_}", "late").close()
            return
        except AssertionError:
            context.elapse(0.05)
    raise AssertionError(f"nobody comes in again:\n{context.started.output()}")


def attempt(peer):
    try:
        peer.connect()
    except (AssertionError, OSError):
        pass


@case("SCRAM by MQTT.js, and again", SOCKET, (V5,), alone=True)
def scram(outer):
    context = Guarded(outer, "password_file")
    for form in ("sha-256", "sha-512"):
        context.passwd("users.txt", f"user-{form}", "--form", f"scram-{form}")
    context.start()
    try:
        if not MQTTJS.exists():
            context.outer.case.offered = False
            print("mqtt.js is not installed: no foreign SCRAM")
            return
        follow_scram(context)
    finally:
        context.close()


def follow_scram(context):
    def said(form, user, password="secret"):
        command = ["node", str(DRIVER), context.host, str(context.port),
                   str(MQTTJS.parents[1]), form, user, password]
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S * 3)
        return done.stdout.strip() + done.stderr.strip()

    assert said("sha256", "user-sha-256") == "proven twice"
    assert said("sha512", "user-sha-512") == "proven twice"
    for form, user, password in (("sha256", "user-sha-256", "wrong"), ("sha256", "nobody", "secret"),
                                 ("sha512", "user-sha-256", "secret")):
        words = said(form, user, password)
        assert words.startswith("refused: ") and "user name" in words.lower(), words
    # The same line checks a plain password.
    named(context, "plain", "user-sha-256").close()

