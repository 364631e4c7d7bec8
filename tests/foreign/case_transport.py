"""TLS, client certificates, WebSocket and PROXY headers, with openssl, mosquitto_pub, paho and raw
sockets, on the listeners of docs/OPERATING.md."""

import os
import pathlib
import queue
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import threading
import urllib.parse
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import broker
from case_access import Guarded, example
from case_commands import NAMES, Subscriber
from peer import Peer
from suite import ANSWER_S, MOSQUITTO, PAHO, SOCKET, V5, V311, case

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
                None)
MQTTJS = pathlib.Path(__file__).parents[2] / "target" / "foreign-node" / "node_modules" / "mqtt"


def openssl(place, *arguments):
    done = subprocess.run(["openssl", *arguments], cwd=place, capture_output=True, text=True,
                          timeout=ANSWER_S * 4, input="")
    assert done.returncode == 0, done.stderr
    return done.stdout


def certificate(place, name, subject, authority="ca"):
    """A key and a certificate of an authority, made beside it."""
    ours = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout",
            f"{name}.key"]
    if name == authority:
        openssl(place, "req", "-x509", *ours, "-out", f"{name}.pem", "-days", "2", "-subj", subject)
        return
    openssl(place, "req", *ours, "-out", f"{name}.csr", "-subj", subject)
    (place / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl(place, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey",
            f"{authority}.key", "-CAcreateserial", "-out", f"{name}.pem", "-days", "2", "-extfile",
            "names")


class Doors(Guarded):
    """A broker with the listeners of an example, each on a port of its own."""

    def __init__(self, outer, name):
        super().__init__(outer, name)
        certificate(self.place, "ca", "/CN=ours")
        certificate(self.place, "server", "/CN=localhost")

    change = "", ""

    def start(self):
        config = example(self.name_of_example)
        names = re.findall(r'^name = "([^"]*)"', config, re.MULTILINE)
        self.ports = {name: broker.free_port() for name in names}

        def command(_host, port):
            self.ports[names[0]] = port
            ports = iter(self.ports.values())
            text = re.sub(r'address = "[^"]*"',
                          lambda _: f'address = "127.0.0.1:{next(ports)}"', config)
            text = text.replace(*self.change)
            text = text.replace('unix_path = "', f'unix_path = "{self.place}/')
            (self.place / "corelane.toml").write_text(text)
            return [self.binary, "--config", str(self.place / "corelane.toml"), "--shards", "2"]

        self.started = broker.Started(command)
        self.begin()
        return self

    def at(self, name):
        """The same context with clients coming by another listener."""
        self.port = self.ports[name]
        return self

    def pub(self, listener, *arguments, topic="x", message="hi"):
        command = ["mosquitto_pub", "-h", "localhost", "-p", str(self.ports[listener]), "-V",
                   NAMES[self.version], "-t", topic, "-m", message, "-q", "1", *arguments]
        return subprocess.run(command, cwd=self.place, capture_output=True, text=True,
                              timeout=ANSWER_S)

    def keep_session(self, listener, version):
        """Leaves a session in a file: with TLS 1.3 its ticket comes after the handshake."""
        session = self.place / "session"
        session.unlink(missing_ok=True)
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{self.ports[listener]}",
                   "-servername", "localhost", "-CAfile", "ca.pem", version, "-sess_out", "session"]
        with subprocess.Popen(command, cwd=self.place, stdin=subprocess.PIPE,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            for _ in range(400):
                if session.exists() and session.stat().st_size > 0:
                    break
                self.elapse(0.02)
            process.stdin.close()
            process.wait(ANSWER_S)

    def s_client(self, listener, *arguments):
        """What openssl tells of a handshake."""
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{self.ports[listener]}",
                   "-servername", "localhost", "-CAfile", "ca.pem", *arguments]
        done = subprocess.run(command, cwd=self.place, capture_output=True, text=True, input="",
                              timeout=ANSWER_S)
        return done.stdout + done.stderr


def with_doors(name):
    """Runs a case with a broker of its own."""

    def wrap(function):
        def run(outer):
            context = Doors(outer, name)
            try:
                function(context)
            finally:
                context.close()

        run.__module__ = __name__
        return run

    return wrap


@case("TLS 1.2 and 1.3, and nothing older", MOSQUITTO, alone=True)
@with_doors("tls")
def tls(context):
    context.start()
    watcher = Subscriber(context.at("inside"), "-t", "x", "-C", "2", "-W", "8", "-F", "%p")
    for version in ("tlsv1.2", "tlsv1.3"):
        done = context.pub("tls", "--cafile", "ca.pem", "--tls-version", version, message=version)
        assert done.returncode == 0, done
    assert watcher.lines() == ["tlsv1.2", "tlsv1.3"]
    certificate(context.place, "other", "/CN=other", authority="other")
    assert context.pub("tls", "--cafile", "other.pem").returncode != 0, "an unknown authority"
    assert context.pub("tls").returncode != 0, "a client without TLS"
    for version in ("-tls1_2", "-tls1_3"):
        told = context.s_client("tls", version)
        assert "Verify return code: 0 (ok)" in told, told
        assert re.search(r"(AES_\d+_GCM|AES\d+-GCM|CHACHA20)", told), told
    for old in ("-tls1", "-tls1_1"):
        told = context.s_client("tls", old, "-cipher", "ALL:@SECLEVEL=0")
        assert "Cipher is (NONE)" in told or "unknown option" in told.lower(), told
    for weak in ("AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "NULL", "aNULL"):
        told = context.s_client("tls", "-tls1_2", "-cipher", f"{weak}:@SECLEVEL=0")
        assert "Cipher is (NONE)" in told or "no cipher match" in told.lower(), f"{weak}: {told}"


@case("TLS sessions are resumed on any core", SOCKET, (V311,), alone=True)
@with_doors("tls")
def resumption(context):
    context.start()
    for version in ("-tls1_2", "-tls1_3"):
        # Ten more connections meet both cores but for one run in a thousand.
        context.keep_session("tls", version)
        resumed = [context.s_client("tls", version, "-sess_in", "session") for _ in range(10)]
        assert all("Reused, TLSv1" in told for told in resumed), resumed[0]


@case("client certificates are asked for and name the user", MOSQUITTO, alone=True)
@with_doors("certificates")
def certificates(context):
    certificate(context.place, "meter", "/CN=meter-1")
    context.start()
    good = ["--cafile", "ca.pem", "--cert", "meter.pem", "--key", "meter.key"]
    watcher = Subscriber(context.at("inside"), "-t", "meters/#", "-C", "1", "-W", "8", "-F", "%t")
    assert context.pub("certificates", "--cafile", "ca.pem").returncode != 0, "no certificate"
    certificate(context.place, "other", "/CN=other", authority="other")
    certificate(context.place, "foe", "/CN=meter-1", authority="other")
    foe = ["--cafile", "ca.pem", "--cert", "foe.pem", "--key", "foe.key"]
    assert context.pub("certificates", *foe).returncode != 0, "somebody else's certificate"
    context.pub("certificates", *good, topic="meters/meter-2/power")
    context.pub("certificates", *good, topic="meters/meter-1/power")
    assert watcher.lines() == ["meters/meter-1/power"]


@case("a renewed certificate is served at SIGHUP", SOCKET, (V311,), alone=True)
@with_doors("tls")
def renewal(context):
    context.start()
    old = context.s_client("tls")
    with ssl.create_default_context(cafile=context.place / "ca.pem").wrap_socket(
            socket.create_connection(("127.0.0.1", context.ports["tls"])),
            server_hostname="localhost") as lasting:
        lasting.sendall(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")
        assert lasting.recv(4) == b"\x20\x02\x00\x00"
        certificate(context.place, "server", "/CN=renewed")
        context.hang_up()
        told = context.s_client("tls")
        assert "CN = renewed" in told or "CN=renewed" in told, told
        assert "renewed" not in old
        lasting.sendall(b"\xc0\x00")
        assert lasting.recv(2) == b"\xd0\x00", "who was there stays"
        # A file that can't be used changes nothing.
        (context.place / "server.key").write_text("nonsense")
        context.started.process.send_signal(signal.SIGHUP)
        for _ in range(400):
            if "nothing was taken over" in context.started.output():
                break
            context.elapse(0.02)
        assert "renewed" in context.s_client("tls")


@case("WebSocket, plain and over TLS", PAHO, alone=True)
@with_doors("websocket")
def websocket(context):
    context.start()
    payload = "x" * 70_000
    for name, encrypted in (("websocket", False), ("secure-websocket", True)):
        peer = Peer(context.at(name), name, connect=False, transport="websockets")
        if encrypted:
            peer.prepare = lambda client: client.tls_set(str(context.place / "ca.pem"))
        context.host = "localhost"
        peer.connect()
        peer.subscribe("a/#", 2)
        for qos in (0, 1, 2):
            peer.publish("a/b", f"{qos}{payload}", qos)
        peer.expect([f"{qos}{payload}" for qos in (0, 1, 2)])
        peer.close()


@case("PROXY headers say whose connection it is", SOCKET, (V311,), alone=True)
@with_doors("proxy")
def proxy(context):
    context.start()
    connect = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"
    addresses = bytes([192, 0, 2, 7, 127, 0, 0, 1]) + struct.pack(">HH", 4711, 1883)
    binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack(">H", len(addresses)) + addresses
    line = b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 1883\r\n"
    for header, cut in ((line, 9), (binary, 3), (line, len(line)), (binary, len(binary))):
        with socket.create_connection(("127.0.0.1", context.ports["balanced"])) as link:
            link.settimeout(ANSWER_S)
            link.sendall(header[:cut])
            context.elapse(0.02)
            link.sendall(header[cut:] + connect)
            assert link.recv(4) == b"\x20\x02\x00\x00"
    lines = []
    for _ in range(400):  # the log is written by a thread of its own
        lines = [line for line in context.started.output().splitlines() if " connected " in line]
        if len(lines) == 4:
            break
        context.elapse(0.02)
    assert len(lines) == 4 and all("peer=192.0.2.7:4711 " in line for line in lines), lines
    # One whose network is not let in, and one without a header.
    for start in (line.replace(b"192.0.2.7", b"203.0.113.9"), b""):
        with socket.create_connection(("127.0.0.1", context.ports["balanced"])) as link:
            link.settimeout(ANSWER_S)
            link.sendall(start + connect)
            try:
                assert link.recv(4) == b"", "closed without a word"
            except ConnectionResetError:
                pass


@case("a Unix socket, and what a dead broker left", MOSQUITTO, alone=True)
@with_doors("unix")
def unix(context):
    path = context.place / "corelane.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    context.start()
    assert path.is_socket() and path.stat().st_mode & 0o777 == 0o660
    watcher = Subscriber(context.at("inside"), "-t", "x", "-C", "1", "-W", "8", "-F", "%p")
    connect = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(ANSWER_S)
        link.connect(str(path))
        link.sendall(connect)
        assert link.recv(4) == b"\x20\x02\x00\x00"
        link.sendall(b"\x30\x07\x00\x01xhere")
        assert watcher.lines() == ["here"]
    context.started.stop()
    assert not path.exists(), "it goes with the broker"


def frame(opcode, payload):
    """A short frame of a client."""
    mask = b"\x01\x02\x03\x04"
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + masked


@case("a ping is answered behind a message that is being sent", SOCKET, (V311,), alone=True)
@with_doors("websocket")
def ping_behind(context):
    # So little that the kernel can't take the whole message at once.
    context.change = "websocket = true\n", "websocket = true\nsend_buffer_bytes = 4096\n"
    context.start()
    request = (b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
               b"Sec-WebSocket-Protocol: mqtt\r\n\r\n")
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.settimeout(ANSWER_S)
        link.connect(("127.0.0.1", context.ports["websocket"]))
        link.sendall(request)
        seen = b""
        while b"\r\n\r\n" not in seen:
            seen += link.recv(1)
        link.sendall(frame(2, b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"))
        assert link.recv(6) == b"\x82\x04\x20\x02\x00\x00"
        link.sendall(frame(2, b"\x82\x08\x00\x01\x00\x03big\x00"))
        assert link.recv(7) == b"\x82\x05\x90\x03\x00\x01\x00"
        publisher = Peer(context.at("inside"), "p")
        publisher.publish("big", "x" * 1_000_000, 1)
        link.sendall(frame(9, b"are you there"))
        context.elapse(0.1)
        rest, pong = b"", b"\x8a\x0dare you there"
        while pong not in rest[-200:]:
            piece = link.recv(65536)
            assert piece, "the end instead of a pong"
            rest += piece
        assert len(rest) > 1_000_000


PAGE = """<!doctype html><title>waits</title><script src="mqtt.min.js"></script><script>
const client = mqtt.connect("ws://127.0.0.1:PORT/mqtt", {protocolVersion: VERSION});
client.on("connect", () => client.subscribe("browser/#", {qos: 1}, () =>
  client.publish("browser/said", "from a page", {qos: 2})));
const say = (text) => fetch(`/said?${encodeURIComponent(text)}`);
client.on("message", (topic, payload) => say(`${topic} ${payload}`));
client.on("error", (error) => say(`error: ${error}`));
</script>"""


@case("a page in a browser", PAHO, (V311, V5), alone=True)
@with_doors("websocket")
def browser(context):
    script = MQTTJS / "dist" / "mqtt.min.js"
    if not CHROMIUM or not script.exists():
        context.outer.case.offered = False
        print("chromium or mqtt.js is not installed: no page in a browser")
        context.start()
        return
    context.start()
    version = "5" if context.version == V5 else "4"
    page = PAGE.replace("PORT", str(context.ports["websocket"])).replace("VERSION", version)
    (context.place / "index.html").write_text(page)
    shutil.copy(script, context.place / "mqtt.min.js")

    said = queue.Queue()

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(context.place))

        def do_GET(self):
            if self.path.startswith("/said?"):
                said.put(urllib.parse.unquote(self.path.partition("?")[2]))
            super().do_GET()

        def log_message(self, *_arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    watching = Peer(context.at("inside"), "watcher")
    watching.subscribe("browser/#", 1)
    command = [CHROMIUM, "--headless", "--disable-gpu", "--no-first-run",
               f"--user-data-dir={context.place / 'profile'}", "--remote-debugging-port=0",
               f"http://127.0.0.1:{server.server_port}/index.html"]
    if os.geteuid() == 0:
        command.insert(1, "--no-sandbox")
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        assert said.get(timeout=30) == "browser/said from a page"
    finally:
        process.terminate()
        process.wait(ANSWER_S)
        server.shutdown()
    watching.expect(["from a page"])
