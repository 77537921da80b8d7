// What the pages for reviewing and recording share: who sits there, sound to hear, and patience.
import { ServerError, setKey } from "./server.js";

export const element = (id) => document.getElementById(id);

export function say(text, isError = false) {
  element("status").textContent = text;
  element("status").classList.toggle("error", isError);
}

// Asks until the server answers: what was typed or said stays here as long as it does not.
export async function insist(request) {
  for (;;) {
    try {
      return await request();
    } catch (error) {
      if (!(error instanceof ServerError) || ![0, 429, 503].includes(error.status)) throw error;
      say(`${error.message} Nothing is lost: this page tries again.`, true);
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
}

// Characters of a text for which the model has no token.
export function unknown(text, alphabet) {
  if (alphabet === null) return [];
  return [...new Set(text.normalize("NFC").replace(/\s/g, " "))].filter((c) => c !== " " && !alphabet.includes(c));
}

export function showUnknown(place, text, alphabet) {
  const characters = unknown(text, alphabet);
  place.hidden = !characters.length;
  place.textContent = characters.length
    ? `The model has no token for ${characters.join(" ")}: kept as they are, and nothing is learnt of them yet.` : "";
}

// Plays stretches of a sound, one at a time.
export class Player {
  #context = null;
  #node = null;
  #begin = 0;
  #start = 0;
  buffer = null;
  moved = () => {};

  get isPlaying() {
    return this.#node !== null;
  }

  get place() {
    return this.#node ? this.#start + this.#context.currentTime - this.#begin : this.#start;
  }

  play(start, end) {
    this.stop();
    if (!this.buffer) return;
    this.#context ??= new AudioContext();
    this.#context.resume();
    const node = this.#context.createBufferSource();
    node.buffer = this.buffer;
    node.connect(this.#context.destination);
    node.onended = () => {
      if (this.#node === node) this.stop();
    };
    this.#node = node;
    this.#start = start;
    this.#begin = this.#context.currentTime;
    node.start(0, start, Math.max(0.02, end - start));
    this.#follow();
  }

  stop(place = this.place) {
    const node = this.#node;
    this.#start = place;
    this.#node = null;
    try {
      node?.stop();
    } catch { /* it has ended */ }
    this.moved();
  }

  #follow() {
    if (!this.#node) return;
    this.moved();
    requestAnimationFrame(() => this.#follow());
  }
}

// The form at the beginning: a name, a key where one is needed, and leave to play sounds.
export function welcome(begin) {
  say(element("status").dataset.text);
  element("begin").disabled = false;
  element("name").value = localStorage.getItem("name") ?? "";
  element("start").addEventListener("submit", async (event) => {
    event.preventDefault();
    localStorage.setItem("name", element("name").value.trim());
    if (element("key").value) setKey(element("key").value.trim());
    try {
      await begin(element("name").value.trim());
      element("start").hidden = true;
      element("work").hidden = false;
    } catch (error) {
      element("key-field").hidden = !(error instanceof ServerError && error.status === 401);
      say(element("key-field").hidden ? error.message : "A key is needed.", true);
    }
  });
}
