// Requests to the server that the page came from.
const GONE = "The server does not answer. Is asr serve still running?";

export class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export function key() {
  return sessionStorage.getItem("key") ?? "";
}

export function setKey(value) {
  sessionStorage.setItem("key", value);
}

async function request(path, options = {}) {
  const headers = { ...options.headers, ...(key() ? { authorization: `Bearer ${key()}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new ServerError(GONE, 0);
  }
  if (response.ok) return response;
  let message = `The server answers with ${response.status}.`;
  try {
    message = (await response.json()).error.message;
  } catch { /* it is no error object: a proxy's */ }
  throw new ServerError(message, response.status);
}

// What a page says to its own part of the server; `body` is an object or a Blob.
export async function tell(path, body) {
  const isBlob = body instanceof Blob;
  const headers = { "content-type": isBlob ? body.type : "application/json" };
  const reply = await request(path, { method: "POST", headers, body: isBlob ? body : JSON.stringify(body) });
  return reply.json();
}

export async function sound(path) {
  return (await request(path)).blob();
}

// Addresses of the pages that this server has.
export async function pages() {
  return (await (await request("/healthz")).json()).pages;
}

// A name of this page's own, by which the server knows what it is at work on.
export function chance(bytes = 12) {
  return [...crypto.getRandomValues(new Uint8Array(bytes))].map((b) => b.toString(16).padStart(2, "0")).join("");
}

export async function models() {
  const reply = await (await request("/v1/models")).json();
  return reply.data.map((model) => model.id);
}

export async function ask(blob, name, model, format) {
  const form = new FormData();
  form.append("file", blob, name);
  form.append("model", model);
  form.append("response_format", format);
  if (format === "verbose_json") {
    for (const kind of ["word", "segment"]) form.append("timestamp_granularities[]", kind);
  }
  const response = await request("/v1/audio/transcriptions", { method: "POST", body: form });
  return format.endsWith("json") ? response.json() : response.text();
}

export function openSocket(model) {
  const address = new URL("/live", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  address.searchParams.set("model", model);
  const protocols = ["vosk"];
  if (key()) {
    const bytes = new TextEncoder().encode(key());
    const text = btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_");
    protocols.push("key." + text.replace(/=+$/, ""));
  }
  return new WebSocket(address, protocols);
}

export { GONE };
