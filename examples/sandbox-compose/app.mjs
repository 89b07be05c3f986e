// Verify a person with Veriff's API: create a session, upload a picture, submit, and wait for the signed webhook.
// Node.js 18 or newer, without packages. It runs unchanged against Veriff and against the sandbox.
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const { VERIFF_API_KEY: key, VERIFF_SHARED_SECRET: secret, VERIFF_BASE_URL: base } = process.env;
const { PORT = "8090", FIRST_NAME = "Decline" } = process.env; // the sandbox declines a person with this first name
const picture = Buffer.from("/9j/4AAQSkZJRgABAQAAAQABAAD/2Q==", "base64"); // the beginning and the end of a JPEG

const sign = (data) => createHmac("sha256", secret).update(data).digest();

async function call(method, path, body) {
  const text = JSON.stringify(body);
  const headers = {
    "Content-Type": "application/json",
    "X-AUTH-CLIENT": key,
    "X-HMAC-SIGNATURE": sign(text).toString("hex"), // of the exact bytes that are sent
  };
  const response = await fetch(`${base}/v1${path}`, { method, headers, body: text });
  const result = await response.json();
  if (!response.ok) throw new Error(`${method} ${path}: HTTP ${response.status} ${result.code}: ${result.message}`);
  return result;
}

function isSigned(request, body) {
  const given = Buffer.from(request.headers["x-hmac-signature"] ?? "", "hex");
  const expected = sign(body);
  return given.length === expected.length && timingSafeEqual(given, expected);
}

let decide;
const decided = new Promise((resolve) => (decide = resolve));

const server = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks); // the signature covers these bytes, so they are checked before they are parsed
  const accepted = request.method === "POST" && isSigned(request, body);
  response.writeHead(accepted ? 200 : 401).end();
  if (accepted) decide(JSON.parse(body));
});
server.listen(Number(PORT));

const person = { firstName: FIRST_NAME, lastName: "Lovelace" };
const { verification } = await call("POST", "/sessions", { verification: { person, vendorData: "user-42" } });
console.log(`session ${verification.id}`);
const content = `data:image/jpeg;base64,${picture.toString("base64")}`;
for (const context of ["document-front", "face"]) {
  await call("POST", `/sessions/${verification.id}/media`, { image: { context, content } });
}
await call("PATCH", `/sessions/${verification.id}`, { verification: { status: "submitted" } });

const { verification: decision } = await decided;
console.log(`${decision.status} (code ${decision.code}): ${decision.reason ?? "no reason"}`);
server.close();
