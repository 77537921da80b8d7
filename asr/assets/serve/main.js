// The page of `asr serve`: a microphone or a file in, words out. Texts are only ever set as text.
import { ask, models, pages, setKey, ServerError } from "./server.js";
import { Microphone } from "./microphone.js";
import { asWav, decode, drawSpectrum, drawWave } from "./sound.js";
import { Transcript } from "./transcript.js";

const element = (id) => document.getElementById(id);
const status = element("status");
const transcript = new Transcript(element("words"), playWord);
let recording = null; // { blob, name, buffer }
let microphone = null;
let playing = null;

function say(text, isError = false) {
  status.textContent = text;
  status.classList.toggle("error", isError);
}

function enable(isOn) {
  for (const id of ["microphone", "file", "model"]) element(id).disabled = !isOn;
}

async function begin() {
  try {
    const names = await models();
    element("model").replaceChildren(...names.map((name) => new Option(name, name)));
    element("key-form").hidden = true;
    enable(true);
    say("Speak, or give a file.");
  } catch (error) {
    enable(false);
    element("key-form").hidden = !(error instanceof ServerError && error.status === 401);
    if (element("key-form").hidden) say(error.message, true);
    else say("A key is needed.");
  }
}

function show() {
  element("result").hidden = false;
}

async function transcribe(blob, name) {
  enable(false);
  say(`Transcribing ${name}…`);
  transcript.clear();
  element("partial").textContent = "";
  await listenTo(blob, name, null);
  try {
    const reply = await ask(blob, name, element("model").value, "verbose_json");
    transcript.add(reply.words);
    show();
    const warnings = (reply.warnings ?? []).join(" ");
    say(`${reply.duration.toFixed(1)} s, ${reply.words.length} words. ${warnings}`.trim());
    if (!reply.words.length) say(`No words were heard in ${name}. ${warnings}`.trim());
  } catch (error) {
    say(error.message, true);
  }
  enable(true);
}

async function listenTo(blob, name, samples) {
  const player = element("player");
  if (recording?.url) URL.revokeObjectURL(recording.url);
  recording = { blob, name, buffer: await decode(blob, samples), url: URL.createObjectURL(blob) };
  if (recording.buffer) player.src = recording.url;
  else player.removeAttribute("src");
  player.hidden = recording.buffer === null;
  element("downloads").hidden = false;
  draw();
}

function draw() {
  for (const canvas of [element("wave"), element("spectrum")]) canvas.hidden = !recording?.buffer;
  if (!recording?.buffer) return;
  show();
  const ink = getComputedStyle(document.body).getPropertyValue("--mark");
  drawWave(element("wave"), recording.buffer, ink);
  drawSpectrum(element("spectrum"), recording.buffer);
}

function playWord(word) {
  playing?.stop();
  playing = null;
  if (!recording?.buffer) {
    say("This browser cannot play the file; its words are right all the same.");
    return;
  }
  const context = new AudioContext();
  playing = context.createBufferSource();
  playing.buffer = recording.buffer;
  playing.connect(context.destination);
  playing.onended = () => context.close();
  const start = Math.max(0, word.start - 0.05);
  playing.start(0, start, word.end - start + 0.05);
}

async function startMicrophone() {
  transcript.clear();
  element("partial").textContent = "";
  const button = element("microphone");
  microphone = new Microphone(element("model").value, {
    partial: (text) => { element("partial").textContent = text; },
    result: (words) => { transcript.add(words); },
    level: (value) => { element("level").value = value; },
    ended: (text) => finish(text, true),
  });
  try {
    say("Asking for the microphone…");
    await microphone.start();
  } catch (error) {
    microphone = null;
    say(error.message, true);
    return;
  }
  show();
  for (const id of ["wave", "spectrum", "player", "downloads"]) element(id).hidden = true;
  element("level").hidden = false;
  button.textContent = "Stop the microphone";
  button.setAttribute("aria-pressed", "true");
  element("file").disabled = element("model").disabled = true;
  say("Listening.");
}

async function finish(text, isError) {
  if (!microphone) return;
  const { samples, rate } = microphone.recorded();
  microphone = null;
  const button = element("microphone");
  button.textContent = "Start the microphone";
  button.setAttribute("aria-pressed", "false");
  element("level").hidden = true;
  element("partial").textContent = "";
  enable(true);
  say(text, isError);
  if (samples.length) await listenTo(asWav(samples, rate), "microphone.wav", { samples, rate });
}

async function stopMicrophone() {
  say("Finishing…");
  element("microphone").disabled = true;
  try {
    await microphone.stop();
    await finish(`${transcript.words.length} words.`, false);
  } catch (error) {
    await finish(error.message, true);
  }
}

element("microphone").addEventListener("click", () => (microphone ? stopMicrophone() : startMicrophone()));
element("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) transcribe(file, file.name);
  event.target.value = "";
});
const drop = element("drop");
for (const kind of ["dragover", "dragleave", "drop"]) {
  window.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragover");
    const file = kind === "drop" && event.dataTransfer.files[0];
    if (file && !element("file").disabled) transcribe(file, file.name);
  });
}
for (const button of document.querySelectorAll("[data-format]")) {
  button.addEventListener("click", async () => {
    if (!recording) return;
    const { format, suffix } = button.dataset;
    try {
      const reply = await ask(recording.blob, recording.name, element("model").value, format);
      const text = typeof reply === "string" ? reply : JSON.stringify(reply, null, 1);
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
      link.download = recording.name.replace(/\.[^.]*$/, "") + "." + suffix;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    } catch (error) {
      say(error.message, true);
    }
  });
}
element("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey(element("key").value.trim());
  begin();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
window.addEventListener("resize", draw);
begin();
pages().then((names) => {
  element("pages").hidden = !names.length;
  for (const name of names) {
    const link = document.createElement("a");
    link.href = `/${name}`;
    link.textContent = name === "review" ? "Review speech" : "Record sentences";
    element("pages").append(link, " ");
  }
}).catch(() => {});
