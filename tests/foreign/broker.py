"""The broker under test: a running one, corelane's binary, or mosquitto as the reference."""

import signal
import socket
import subprocess
import tempfile
import time

START_S = 20.0
STOP_S = 15.0


class Running:
    """A broker that somebody else started."""

    binary = None

    def __init__(self, host, port):
        self.address = (host, port)

    def stop(self):
        return None


class Started:
    """A broker process of our own on a free port of the loopback address."""

    def __init__(self, command_for, binary=None):
        self.binary = binary  # corelane's, where it is that
        self.address = ("127.0.0.1", free_port())
        self.log = tempfile.TemporaryFile(mode="w+")
        self.process = subprocess.Popen(command_for(*self.address), stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=subprocess.STDOUT)
        self.wait_for_port()

    def wait_for_port(self):
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(self.address, timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        self.stop()
        raise SystemExit(f"the broker does not listen on {self.address}:\n{self.output()}")

    def output(self):
        self.log.seek(0)
        return self.log.read()

    def stop(self):
        """Asks for an orderly end; returns what is wrong with how it ended."""
        if self.process.poll() is not None:
            return f"the broker ended by itself with {self.process.returncode}:\n{self.output()}"
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return f"the broker did not end within {STOP_S} s of SIGTERM:\n{self.output()}"
        return None if code == 0 else f"the broker ended with {code}:\n{self.output()}"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def corelane(path, shards):
    return Started(lambda host, port: [path, "--listen", f"{host}:{port}", "--shards", str(shards)],
                   path)


def mosquitto(path):
    def command(host, port):
        config = tempfile.NamedTemporaryFile("w", suffix=".conf", delete=False)
        config.write(f"listener {port} {host}\nallow_anonymous true\npersistence false\n"
                     "max_packet_size 1048576\nmax_queued_messages 10000\n"
                     "max_inflight_messages 1000\n")
        config.close()
        return [path, "-c", config.name]

    return Started(command)
