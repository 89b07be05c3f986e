// A webhook endpoint of Node.js alone. The first part of the path names its fault; /none has none.
// GET /effects/<fault>/<session> returns the effects of a session. The server prints its port.

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const API_KEY = process.env.VERIFF_API_KEY;
const SECRETS = process.env.VERIFF_SHARED_SECRET.split(",");
const MAX_BODY = 1_048_576;
const sessions = new Map();

const sign = (secret, body) => createHmac("sha256", secret).update(body).digest("hex");

function equals(fault, expected, signature) {
  const [a, b] = [Buffer.from(expected), Buffer.from(signature)];
  // timingSafeEqual throws for texts of different lengths.
  return (fault === "throws-for-lengths" || a.length === b.length) && timingSafeEqual(a, b);
}

function isSigned(fault, headers, body) {
  const [old, newer] = [headers["x-hmac-signature"], headers["vrf-hmac-signature"]];
  let signature = fault === "reads-x-only" ? old : fault === "reads-vrf-only" ? newer : (old ?? newer);
  if (signature === undefined) return false;
  if (fault !== "lower-case-only") signature = signature.toLowerCase();
  if (old !== undefined && newer !== undefined && old.toLowerCase() !== newer.toLowerCase()) return false;
  if ((headers["x-auth-client"] ?? headers["vrf-auth-client"])?.toLowerCase() !== API_KEY) return false;
  let signed = body;
  if (fault === "stringify") {
    try {
      signed = JSON.stringify(JSON.parse(body));
    } catch {
      return false;
    }
  }
  if (fault === "body-consumed") signed = ""; // a parser in front of the handler has taken the stream
  const secrets = [...SECRETS];
  if (fault === "undefined-secret") secrets.push(`${process.env.MISSING}`);
  if (fault === "api-key-as-secret") secrets.push(API_KEY);
  return secrets.some((secret) => equals(fault, sign(secret, signed), signature));
}

function work(fault, event) {
  const decision = event.verification;
  if (typeof decision?.id !== "string") return;
  const name = `${fault}/${decision.id}`;
  const session = sessions.get(name) ?? { keys: new Set(), count: 0, status: null, time: "" };
  sessions.set(name, session);
  const key = JSON.stringify([decision.attemptId, decision.status, decision.decisionTime]);
  if (session.keys.has(key)) return;
  session.keys.add(key);
  session.count += 1;
  if ((decision.decisionTime ?? "") >= session.time) {
    session.status = decision.status;
    session.time = decision.decisionTime ?? "";
  }
}

function receive(fault, request, response, body) {
  const answer = (status, text = "") => response.writeHead(status, { "content-type": "text/plain" }).end(text);
  if (!isSigned(fault, request.headers, body)) return answer(401);
  let event;
  try {
    event = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch (error) {
    if (fault === "shows-stack") throw error;
    return answer(400);
  }
  if (fault !== "reads-null" && (event === null || typeof event !== "object" || Array.isArray(event))) {
    return answer(400);
  }
  if (fault === "keeps-sessions-only" && !event.verification.id) return answer(400);
  if (event.verification) work(fault, event);
  answer(200);
}

const server = createServer((request, response) => {
  const parts = request.url.split("/").slice(1);
  if (parts[0] === "effects") {
    const { count, status } = sessions.get(`${parts[1]}/${parts[2]}`) ?? { count: 0, status: null };
    return response.end(JSON.stringify({ count, status }));
  }
  const fault = parts[0];
  const refuse = (status) => response.writeHead(status, { connection: "close" }).end();
  if (request.method !== "POST") return refuse(405);
  const type = request.headers["content-type"] ?? "";
  if (fault === "exact-type" ? type !== "application/json" : !/^(application\/json\b|$)/.test(type)) return refuse(415);
  if (request.headers["content-encoding"]) return refuse(415);
  const limit = fault === "small-limit" ? 100_000 : fault === "no-limit" ? Infinity : MAX_BODY;
  let [text, size] = ["", 0];
  const chunks = [];
  request.on("data", (chunk) => {
    size += chunk.length;
    if (size > limit) return;
    chunks.push(chunk);
    if (fault === "text-of-chunks") text += chunk; // each chunk is decoded by itself
  });
  request.on("end", () => {
    if (size > limit) return refuse(413);
    if (fault === "no-limit" && size > MAX_BODY) return response.writeHead(200).end(); // stands for lost memory
    try {
      receive(fault, request, response, fault === "text-of-chunks" ? Buffer.from(text) : Buffer.concat(chunks));
    } catch (error) {
      response.writeHead(500).end(fault === "shows-stack" ? error.stack : "");
    }
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
