// Drives MQTT.js, a client library that others wrote, through the features of the matrix.
//
//     node mqttjs.mjs HOST PORT VERSION MODULES      VERSION 3.1, 3.1.1 or 5
//
// MODULES is the folder above node_modules. Prints one line of JSON for each feature: its name, its
// result (ok, FAIL or "not offered") and the fault. run.py reads them.

import { createRequire } from "node:module";
import { resolve } from "node:path";

const [HOST, PORT, VERSION, MODULES] = process.argv.slice(2);
const mqtt = createRequire(`${resolve(MODULES)}/`)("mqtt");
const V5 = VERSION === "5";
const PROTOCOL = {
  3.1: { protocolId: "MQIsdp", protocolVersion: 3 },
  "3.1.1": { protocolId: "MQTT", protocolVersion: 4 },
  5: { protocolId: "MQTT", protocolVersion: 5 },
}[VERSION];
const ANSWER_MS = 10_000;
const RUN = `js${process.pid}`;

class NotOffered extends Error {}

function check(holds, what) {
  if (!holds) throw new Error(what);
}

function same(got, expected) {
  const [left, right] = [JSON.stringify(got), JSON.stringify(expected)];
  check(left === right, `${left} instead of ${right}`);
}

const elapse = (ms) => new Promise((done) => setTimeout(done, ms));

// One connection that a case can wait on: every wait has a condition and a deadline.
class Peer {
  constructor(options) {
    this.messages = [];
    this.aliases = 0;
    this.pongs = 0;
    this.waiting = [];
    this.client = mqtt.connect({
      host: HOST, port: Number(PORT), ...PROTOCOL, reconnectPeriod: 0, keepalive: 30, ...options,
    });
    const client = this.client;
    client.on("connect", (connack) => this.note(() => (this.connack = connack)));
    client.on("close", () => this.note(() => (this.ended = true)));
    client.on("error", (error) => this.note(() => (this.error = error)));
    client.on("disconnect", (packet) => this.note(() => (this.reason = packet.reasonCode)));
    client.on("packetreceive", (packet) => this.note(() => {
      if (packet.cmd === "pingresp") this.pongs += 1;
      if (packet.cmd === "publish" && packet.properties?.topicAlias) this.aliases += 1;
    }));
    client.on("message", (topic, payload, packet) => this.note(() => this.messages.push({
      topic, payload, qos: packet.qos, retain: packet.retain, properties: packet.properties ?? {},
    })));
  }

  note(change) {
    change();
    this.waiting = this.waiting.filter((each) => !each());
  }

  wait(condition, what) {
    return new Promise((done, fail) => {
      if (condition()) return done();
      const state = () => `ended ${this.ended}, error ${this.error}, ${this.messages.length} messages`;
      const late = setTimeout(() => fail(new Error(`waited for ${what}; ${state()}`)), ANSWER_MS);
      this.waiting.push(() => {
        if (!condition()) return false;
        clearTimeout(late);
        done();
        return true;
      });
    });
  }

  async opened() {
    await this.wait(() => this.connack || this.error || this.ended, "CONNACK");
    check(this.connack, `refused: ${this.error}`);
    return this;
  }

  async subscribe(filter, qos = 1, options = {}) {
    const grants = await this.client.subscribeAsync(filter, { qos, ...options });
    return grants.map((grant) => grant.qos);
  }

  publish(topic, payload, qos = 1, options = {}) {
    return this.client.publishAsync(topic, payload, { qos, ...options });
  }

  payloads() {
    return this.messages.map((message) => message.payload.toString());
  }

  // Waits for as many messages, then compares all of them.
  async expect(payloads) {
    await this.wait(() => this.messages.length >= payloads.length, JSON.stringify(payloads));
    same(this.payloads(), payloads);
  }

  // Ends the connection as a failing network does.
  async drop() {
    this.client.stream.destroy();
    await this.wait(() => this.ended, "the end of the socket");
  }

  async disconnect() {
    await this.client.endAsync(false);
  }
}

// What a case works with: peers and names that no other case uses.
class Context {
  constructor(number) {
    this.name = `${RUN}-${number}`;
    this.peers = [];
  }

  topic(...levels) {
    return ["foreign", this.name, ...levels].join("/");
  }

  open(name, options = {}) {
    const peer = new Peer({ clientId: `${this.name}-${name}`, clean: true, ...options });
    this.peers.push(peer);
    return peer.opened();
  }

  lasting(name, seconds = 60, options = {}) {
    const properties = V5 ? { sessionExpiryInterval: seconds, ...options.properties } : undefined;
    return this.open(name, { clean: false, ...options, properties });
  }

  will(options = {}) {
    return { topic: this.topic("will"), payload: Buffer.from("gone"), qos: 1, ...options };
  }

  async close() {
    await Promise.all(this.peers.map((peer) => peer.client.endAsync(true)));
  }
}

const CASES = [];
const both = (feature, run) => CASES.push({ feature, run });
const modern = (feature, run) => V5 && both(feature, run);

both("connect", async (context) => {
  const peer = await context.open("peer");
  check(!peer.connack.sessionPresent, "a session of a new client id");
  await peer.disconnect();
});

both("clean session", async (context) => {
  const peer = await context.open("peer");
  await peer.subscribe(context.topic());
  await peer.disconnect();
  const again = await context.lasting("peer");
  check(!again.connack.sessionPresent, "session present");
});

both("persistent session", async (context) => {
  const peer = await context.lasting("peer");
  await peer.subscribe(context.topic(), 2);
  await peer.disconnect();
  const publisher = await context.open("publisher");
  for (const [payload, qos] of [["one", 1], ["two", 2]]) {
    await publisher.publish(context.topic(), payload, qos);
  }
  const again = await context.lasting("peer");
  // The flag came with 3.1.1.
  check(again.connack.sessionPresent || VERSION === "3.1", "no session present");
  await again.expect(["one", "two"]);
});

for (const qos of [0, 1, 2]) {
  both(`QoS ${qos}`, async (context) => {
    const [peer, publisher] = [await context.open("peer"), await context.open("publisher")];
    same(await peer.subscribe(context.topic(), qos), [qos]);
    const sent = Array.from({ length: 50 }, (_, number) => String(number));
    for (const payload of sent) await publisher.publish(context.topic(), payload, qos);
    await peer.expect(sent);
    check(peer.messages.every((message) => message.qos === qos), "another QoS");
  });
}

both("retained", async (context) => {
  const publisher = await context.open("publisher");
  for (const payload of ["old", "kept"]) {
    await publisher.publish(context.topic("a"), payload, 1, { retain: true });
  }
  const late = await context.open("late");
  await late.subscribe(context.topic("+"));
  await late.expect(["kept"]);
  check(late.messages[0].retain, "no retain flag");
});

both("will", async (context) => {
  const watcher = await context.open("watcher");
  await watcher.subscribe(context.topic("will"));
  await (await context.open("peer", { will: context.will() })).drop();
  await watcher.expect(["gone"]);
});

modern("will delay", async (context) => {
  const watcher = await context.open("watcher");
  await watcher.subscribe(context.topic("#"));
  const will = context.will({ properties: { willDelayInterval: 1 } });
  const peer = await context.lasting("peer", 60, { will });
  await peer.drop();
  await watcher.publish(context.topic("before"), "before");
  await watcher.expect(["before", "gone"]);
});

both("shared subscription", async (context) => {
  const members = [await context.open("first"), await context.open("second")];
  for (const member of members) await member.subscribe(`$share/${context.name}/${context.topic()}`);
  const publisher = await context.open("publisher");
  const sent = Array.from({ length: 20 }, (_, number) => String(number));
  const total = () => members.flatMap((member) => member.payloads());
  for (const payload of sent) await publisher.publish(context.topic(), payload);
  const all = () => total().length >= 20;
  await Promise.race(members.map((member) => member.wait(all, "20 messages")));
  same(total().map(Number).sort((a, b) => a - b).map(String), sent);
  check(members.every((member) => member.messages.length > 0), "one member got none");
});

modern("topic alias in", async (context) => {
  const peer = await context.open("peer");
  if (!peer.connack.properties?.topicAliasMaximum) throw new NotOffered("no alias maximum");
  await peer.subscribe(context.topic());
  for (const topic of [context.topic(), "", ""]) {
    await peer.publish(topic, "text", 1, { properties: { topicAlias: 1 } });
  }
  await peer.expect(["text", "text", "text"]);
});

modern("topic alias out", async (context) => {
  const peer = await context.open("peer", { properties: { topicAliasMaximum: 10 } });
  await peer.subscribe(context.topic());
  const sent = ["1", "2", "3"];
  for (const payload of sent) await peer.publish(context.topic(), payload);
  await peer.expect(sent);
  check(peer.messages.every((message) => message.topic === context.topic()), "another topic");
  if (peer.aliases === 0) throw new NotOffered("no message came with an alias");
});

modern("user properties", async (context) => {
  const peer = await context.open("peer");
  await peer.subscribe(context.topic());
  const userProperties = { b: ["1", "3"], a: "2" };
  await peer.publish(context.topic(), "text", 1, { properties: { userProperties } });
  await peer.expect(["text"]);
  same({ ...peer.messages[0].properties.userProperties }, userProperties);
});

modern("message expiry", async (context) => {
  const peer = await context.lasting("peer");
  await peer.subscribe(context.topic());
  await peer.disconnect();
  const publisher = await context.open("publisher");
  for (const [payload, messageExpiryInterval] of [["short", 1], ["long", 100]]) {
    await publisher.publish(context.topic(), payload, 1, { properties: { messageExpiryInterval } });
  }
  await elapse(2100);
  const again = await context.lasting("peer");
  await again.expect(["long"]);
  const left = again.messages[0].properties.messageExpiryInterval;
  check(left >= 80 && left <= 98, `${left} s left of 100`);
});

modern("session expiry", async (context) => {
  for (const [name, seconds] of [["kept", 60], ["lapsed", 1]]) {
    await (await context.lasting(name, seconds)).drop();
  }
  await elapse(2600);
  check((await context.lasting("kept")).connack.sessionPresent, "60 s ended early");
  check(!(await context.lasting("lapsed")).connack.sessionPresent, "1 s did not end");
});

modern("subscription identifier", async (context) => {
  const peer = await context.open("peer");
  const properties = { subscriptionIdentifier: 268_435_455 };
  await peer.subscribe(context.topic(), 1, { properties });
  await peer.publish(context.topic(), "text");
  await peer.expect(["text"]);
  same([peer.messages[0].properties.subscriptionIdentifier].flat(), [268_435_455]);
});

modern("no-local", async (context) => {
  const [peer, other] = [await context.open("peer"), await context.open("other")];
  await peer.subscribe(context.topic(), 1, { nl: true });
  await peer.publish(context.topic(), "own");
  await other.publish(context.topic(), "of another");
  await peer.expect(["of another"]);
});

modern("retain handling", async (context) => {
  const publisher = await context.open("publisher");
  await publisher.publish(context.topic("a"), "kept", 1, { retain: true });
  for (const [rh, expected] of [[0, ["kept", "kept"]], [1, ["kept"]], [2, []]]) {
    const peer = await context.open(`peer${rh}`);
    for (const round of [1, 2]) await peer.subscribe(context.topic("a"), round - 1, { rh });
    await peer.subscribe(context.topic("end"));
    await peer.publish(context.topic("end"), "end");
    await peer.expect([...expected, "end"]);
  }
});

modern("maximum packet size", async (context) => {
  const peer = await context.open("peer", { properties: { maximumPacketSize: 200 } });
  await peer.subscribe(context.topic());
  const publisher = await context.open("publisher");
  for (const payload of ["x".repeat(300), "fits"]) await publisher.publish(context.topic(), payload);
  await peer.expect(["fits"]);
});

// The library reads no further before it has acknowledged, so this shows only that all goes on.
modern("receive maximum", async (context) => {
  const peer = await context.open("peer", { properties: { receiveMaximum: 1 } });
  await peer.subscribe(context.topic(), 2);
  const publisher = await context.open("publisher");
  const sent = Array.from({ length: 20 }, (_, number) => String(number));
  for (const payload of sent) await publisher.publish(context.topic(), payload, 1 + payload % 2);
  await peer.expect(sent);
});

modern("request/response", async (context) => {
  const [asking, serving] = [await context.open("asking"), await context.open("serving")];
  await asking.subscribe(context.topic("answer"));
  await serving.subscribe(context.topic("question"));
  const properties = {
    responseTopic: context.topic("answer"), correlationData: Buffer.from([0, 255, 7]),
  };
  await asking.publish(context.topic("question"), "?", 1, { properties });
  await serving.expect(["?"]);
  const { responseTopic, correlationData } = serving.messages[0].properties;
  await serving.publish(responseTopic, "!", 1, { properties: { correlationData } });
  await asking.expect(["!"]);
  same([...asking.messages[0].properties.correlationData], [0, 255, 7]);
});

both("keep-alive", async (context) => {
  const peer = await context.open("peer", { keepalive: 1 });
  await peer.wait(() => peer.pongs >= 3 || peer.ended, "three PINGRESP");
  check(!peer.ended, "ended although it sent PINGREQ");
});

both("take-over", async (context) => {
  const old = await context.lasting("same");
  const next = await context.lasting("same");
  await old.wait(() => old.ended, "the end of the old connection");
  if (V5) same(old.reason, 0x8e);
  await next.subscribe(context.topic());
  await next.publish(context.topic(), "text");
  await next.expect(["text"]);
});

both("payload of 1 MB", async (context) => {
  const peer = await context.open("peer");
  await peer.subscribe(context.topic(), 2);
  const payload = Buffer.alloc(1_000_000, "0123456789");
  for (const qos of [0, 1, 2]) {
    await peer.publish(context.topic(), payload, qos);
    await peer.wait(() => peer.messages.length > qos, `the payload at QoS ${qos}`);
    check(peer.messages[qos].payload.equals(payload), "another payload");
  }
});

both("200 clients", async (context) => {
  const peers = await Promise.all(Array.from({ length: 200 }, (_, n) => context.open(String(n))));
  const topic = (number) => `foreign/${context.name}-${number % 200}/own`;
  await Promise.all(peers.map((peer, number) => peer.subscribe(topic(number))));
  await Promise.all(peers.map((peer, number) => peer.publish(topic(number + 1), String(number))));
  await Promise.all(peers.map((peer, number) => peer.expect([String((number + 199) % 200)])));
});

both("$SYS", async (context) => {
  const peer = await context.open("peer");
  await peer.subscribe("$SYS/#", 0);
  await peer.wait(() => peer.messages.some((each) => each.topic.startsWith("$SYS/")), "$SYS");
});

both("$delayed", async (context) => {
  const peer = await context.open("peer");
  await peer.subscribe(context.topic("#"));
  await peer.publish(`$delayed/1/${context.topic("late")}`, "late");
  await peer.publish(context.topic("soon"), "soon");
  await peer.expect(["soon", "late"]);
  same(peer.messages[1].topic, context.topic("late"));
});

both("$exclusive", async (context) => {
  const [owner, other] = [await context.open("owner"), await context.open("other")];
  await owner.subscribe(`$exclusive/${context.topic()}`);
  await other.publish(context.topic(), "text");
  await owner.expect(["text"]);
  if (VERSION === "3.1") return; // its SUBACK has no refusal
  const refused = await other.subscribe(`$exclusive/${context.topic()}`).then(() => false, () => true);
  check(refused, "granted twice");
});

async function run({ feature, run: body }, number) {
  const context = new Context(number);
  const begun = performance.now();
  let [result, fault] = ["ok", null];
  try {
    await body(context);
  } catch (error) {
    result = error instanceof NotOffered ? "not offered" : "FAIL";
    fault = error.stack;
  }
  await context.close();
  const seconds = (performance.now() - begun) / 1000;
  console.log(JSON.stringify({ feature, result, fault, seconds }));
}

await Promise.all(CASES.map(run));
