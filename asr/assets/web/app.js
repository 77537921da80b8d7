/* The page of a model: a microphone or a file in, words out. Nothing leaves the device. */

import { FORMATS } from "./formats.js";
import { joined } from "./resampler.js";
import { asWav, decode, drawSpectrum, drawWave } from "./sound.js";

const PARTIAL_SECONDS = 15; // of the latest audio, read again while somebody speaks
const LEAST_NEWS = 0.5; // seconds of audio that are new
const MOST_SECONDS = 3600; // of a file
const UNSURE = 0.6; // confidence below which a word is marked
const DOUBTFUL = 0.85;

const element = (id) => document.getElementById(id);
const [status, words, record, picker, wave, spectrum, player, downloads] = [
  "status", "words", "record", "file", "wave", "spectrum", "player", "downloads",
].map(element);
const model = JSON.parse(element("model").textContent);
const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
const waiting = new Map();
let number = 0;
let current = null; // the transcript shown
let recording = null;

const say = (text) => { status.textContent = text; };
const trouble = (text) => {
  status.classList.add("error");
  say(text);
};

worker.onmessage = ({ data }) => {
  if (data.ready) {
    record.disabled = picker.disabled = false;
    say("Ready. Speak, or choose a file.");
  } else if (data.id === undefined) {
    trouble(`The model cannot be loaded: ${data.trouble}`);
  } else if (data.share !== undefined) {
    waiting.get(data.id)?.progress(data.share);
  } else {
    const { resolve, reject } = waiting.get(data.id);
    waiting.delete(data.id);
    if (data.trouble) reject(new Error(data.trouble));
    else resolve(data);
  }
};
worker.onerror = (event) => trouble(`The recognizer stopped: ${event.message || "it cannot be loaded"}`);

function ask(task, values = {}, progress = () => {}) {
  const id = number++;
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject, progress });
    worker.postMessage({ id, task, ...values });
  });
}

/* Microphone */

record.addEventListener("click", () => (recording ? stop() : start()));

async function start() {
  status.classList.remove("error");
  if (!navigator.mediaDevices) {
    trouble("No microphone here: a browser gives it to pages of https or of this computer only.");
    return;
  }
  record.disabled = true;
  let stream;
  let context;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    context = new AudioContext();
    await context.audioWorklet.addModule(new URL("recorder.js", import.meta.url));
    const node = new AudioWorkletNode(context, "recorder");
    if (model.stream) await ask("listen", { rate: context.sampleRate });
    recording = { stream, context, blocks: [], length: 0, read: 0, busy: false, words: [], seconds: 0 };
    node.port.onmessage = ({ data }) => heard(data);
    context.createMediaStreamSource(stream).connect(node);
  } catch (error) {
    stream?.getTracks().forEach((track) => track.stop());
    context?.close();
    recording = null;
    trouble(error.name === "NotAllowedError"
      ? "The microphone was refused. Allow it for this page in the browser's settings, and try again."
      : `No microphone: ${error.message}`);
    return;
  } finally {
    record.disabled = false;
  }
  record.textContent = "Stop";
  record.setAttribute("aria-pressed", "true");
  clear();
  say("Listening\u2026");
}

function heard(block) {
  if (!recording) return;
  recording.blocks.push(block);
  recording.length += block.length;
  if (model.stream) {
    follow(recording, block);
    return;
  }
  const { context, busy, length, read } = recording;
  if (!busy && length - read > LEAST_NEWS * context.sampleRate) partial(recording);
}

/** A network of one direction: each block is heard once. */
async function follow(session, block) {
  try {
    const { result, seconds } = await ask("accept", { samples: block });
    session.words.push(...result.words);
    session.seconds += seconds;
    if (recording !== session) return;
    const said = session.words.map((word) => word.text).join(model.separator);
    put([said, result.text].filter(Boolean).join(model.separator), result.text ? "partial" : "");
  } catch (error) {
    trouble(error.message);
  }
}

/** Text that is not shown yet; a screen reader is told of what is new. */
function put(text, className) {
  if (words.textContent === text && words.firstChild?.className === className) return;
  words.replaceChildren(Object.assign(document.createElement("span"), { className, textContent: text }));
}

/** One of two directions: the latest audio is read again. */
async function partial(session) {
  session.busy = true;
  session.read = session.length;
  const latest = latestOf(session.blocks, PARTIAL_SECONDS * session.context.sampleRate);
  try {
    const { result } = await ask("recognize", { samples: latest, rate: session.context.sampleRate });
    const more = latest.length < session.read ? "\u2026 " : "";
    if (recording === session) put(more + result.text, "partial");
  } catch (error) {
    trouble(error.message);
  }
  session.busy = false;
}

async function stop() {
  const session = recording;
  recording = null;
  for (const track of session.stream.getTracks()) track.stop();
  const rate = session.context.sampleRate;
  await session.context.close();
  record.textContent = "Record";
  record.setAttribute("aria-pressed", "false");
  const samples = joined(session.blocks);
  const reading = () => (model.stream ? finish(session, samples.length / rate) : readWhole(samples, rate));
  await show(samples, rate, "recording", reading);
}

/** What a stream has heard in all. */
async function finish(session, duration) {
  const { result, seconds } = await ask("finish");
  const heard = [...session.words, ...result.words];
  const text = heard.map((word) => word.text).join(model.separator);
  return { result: { text, words: heard, duration }, seconds: session.seconds + seconds };
}

function readWhole(samples, rate) {
  const progress = (share) => say(`Recognizing\u2026 ${Math.round(100 * share)} %`);
  return ask("recognize", { samples, rate }, progress);
}

/** The last samples of blocks. */
function latestOf(blocks, most) {
  let [first, length] = [blocks.length, 0];
  while (first > 0 && length < most) length += blocks[--first].length;
  return joined(blocks.slice(first));
}

/* Files */

picker.addEventListener("change", () => {
  if (picker.files.length) open(picker.files[0]);
  picker.value = "";
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (file && !picker.disabled && !recording) open(file);
});

async function open(file) {
  status.classList.remove("error");
  clear();
  say(`Reading ${file.name}\u2026`);
  try {
    const context = new OfflineAudioContext(1, 1, model.sampleRate);
    const sound = await context.decodeAudioData(await file.arrayBuffer());
    if (sound.duration > MOST_SECONDS) throw new RangeError("longer than an hour");
    const mono = new Float32Array(sound.length);
    for (let channel = 0; channel < sound.numberOfChannels; channel++) {
      const samples = sound.getChannelData(channel);
      for (let i = 0; i < mono.length; i++) mono[i] += samples[i] / sound.numberOfChannels;
    }
    await show(mono, sound.sampleRate, file.name, () => readWhole(mono, sound.sampleRate));
  } catch (error) {
    trouble(error.name === "EncodingError"
      ? `${file.name}: no audio that this browser can read.`
      : `${file.name}: ${error.message}`);
  }
}

/* What was recognized */

function clear() {
  current = null;
  words.replaceChildren();
  downloads.hidden = player.hidden = wave.hidden = spectrum.hidden = true;
}

async function show(samples, rate, name, reading) {
  if (!samples.length) {
    say("Nothing was heard.");
    return;
  }
  record.disabled = picker.disabled = true;
  say("Recognizing\u2026");
  try {
    const { result, seconds } = await reading();
    current = { ...result, name };
    words.replaceChildren(...result.words.flatMap((word) => [shown(word), model.separator]));
    if (player.src) URL.revokeObjectURL(player.src);
    player.src = URL.createObjectURL(asWav(samples, rate));
    player.hidden = wave.hidden = spectrum.hidden = false;
    downloads.hidden = !result.words.length;
    const buffer = await decode(null, { samples, rate });
    drawWave(wave, buffer, getComputedStyle(wave).color);
    drawSpectrum(spectrum, buffer);
    const speed = result.duration / seconds;
    say(result.words.length
      ? `${result.words.length} words in ${result.duration.toFixed(1)} s of audio, read in ${seconds.toFixed(1)} s (${speed.toFixed(0)} times real time).`
      : `No words in ${result.duration.toFixed(1)} s of audio.`);
  } catch (error) {
    trouble(error.message);
  }
  record.disabled = picker.disabled = false;
}

function shown({ text, start, end, confidence }) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = text;
  button.title = `${start.toFixed(2)} to ${end.toFixed(2)} s, confidence ${confidence.toFixed(2)}`;
  if (confidence < UNSURE) button.className = "unsure";
  else if (confidence < DOUBTFUL) button.className = "doubtful";
  button.addEventListener("click", () => {
    player.currentTime = start;
    player.play();
    const wait = () => {
      if (player.currentTime >= end || player.paused) player.pause();
      else requestAnimationFrame(wait);
    };
    requestAnimationFrame(wait);
  });
  return button;
}

for (const canvas of [wave, spectrum]) {
  canvas.addEventListener("click", (event) => {
    player.currentTime = (event.offsetX / canvas.clientWidth) * player.duration;
    player.play();
  });
}

downloads.addEventListener("click", ({ target: { dataset: { format } } }) => {
  if (!format || !current) return;
  const { name, ...result } = current;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([FORMATS[format](result)], { type: "text/plain" }));
  link.download = `${name.replace(/\.[^.]*$/, "")}.${format}`;
  link.click();
  URL.revokeObjectURL(link.href);
});

navigator.serviceWorker?.register(new URL("offline.js", import.meta.url)).catch(() => {});
