// Proves a password by SCRAM with MQTT.js and the cryptography of Node, twice on one connection.
//
//     node mqttjs_scram.mjs HOST PORT MODULES HASH USER PASSWORD     HASH sha256 or sha512
//
// MODULES is the folder above node_modules. Prints "proven twice" or why not.

import { createRequire } from "node:module";
import { createHash, createHmac, pbkdf2Sync, randomBytes, timingSafeEqual } from "node:crypto";
import { resolve } from "node:path";

const [HOST, PORT, MODULES, HASH, USER, PASSWORD] = process.argv.slice(2);
const mqtt = createRequire(`${resolve(MODULES)}/`)("mqtt");
const METHOD = { sha256: "SCRAM-SHA-256", sha512: "SCRAM-SHA-512" }[HASH];
const hmac = (key, text) => createHmac(HASH, key).update(text).digest();

// The client's side of one exchange (RFC 5802).
class Scram {
  constructor() {
    this.nonce = randomBytes(18).toString("base64");
    this.bare = `n=${USER},r=${this.nonce}`;
  }

  first() {
    return Buffer.from(`n,,${this.bare}`);
  }

  last(data) {
    const first = data.toString();
    const fields = Object.fromEntries(first.split(",").map((part) => [part[0], part.slice(2)]));
    if (!fields.r.startsWith(this.nonce)) throw new Error("the nonce is not ours");
    const length = HASH === "sha256" ? 32 : 64;
    const salt = Buffer.from(fields.s, "base64");
    const salted = pbkdf2Sync(PASSWORD, salt, Number(fields.i), length, HASH);
    const key = hmac(salted, "Client Key");
    const stored = createHash(HASH).update(key).digest();
    const bare = `c=biws,r=${fields.r}`;
    const signed = `${this.bare},${first},${bare}`;
    this.expected = hmac(hmac(salted, "Server Key"), signed);
    const signature = hmac(stored, signed);
    const proof = Buffer.from(key.map((byte, at) => byte ^ signature[at]));
    return Buffer.from(`${bare},p=${proof.toString("base64")}`);
  }

  check(data) {
    const told = Buffer.from(data.toString().slice(2), "base64");
    if (!timingSafeEqual(told, this.expected)) throw new Error("the server does not know us");
  }
}

let scram = new Scram();
const end = (text, code) => {
  console.log(text);
  process.exit(code);
};
const client = mqtt.connect({
  host: HOST, port: Number(PORT), protocolId: "MQTT", protocolVersion: 5, reconnectPeriod: 0,
  properties: { authenticationMethod: METHOD, authenticationData: scram.first() },
});
client.handleAuth = (packet, callback) => {
  const data = packet.properties.authenticationData;
  if (packet.reasonCode === 0) {
    scram.check(data);
    callback();
    return end("proven twice", 0);
  }
  callback(null, {
    cmd: "auth", reasonCode: 24,
    properties: { authenticationMethod: METHOD, authenticationData: scram.last(data) },
  });
};
client.on("connect", (connack) => {
  if (connack.properties.authenticationMethod !== METHOD) end("another method", 1);
  scram.check(connack.properties.authenticationData);
  scram = new Scram();
  client._writePacket({
    cmd: "auth", reasonCode: 25,
    properties: { authenticationMethod: METHOD, authenticationData: scram.first() },
  });
});
client.on("error", (error) => end(`refused: ${error.message}`, 2));
client.on("close", () => end("closed", 3));
setTimeout(() => end("nothing happens", 4), 10_000);
