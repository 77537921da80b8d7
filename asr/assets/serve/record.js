// The page for recording sentences: read, hear, keep or repeat. Texts are only ever set as text.
import { Capture } from "./capture.js";
import { element, insist, Player, say, showUnknown, welcome } from "./desk.js";
import { chance, tell } from "./server.js";
import { asWav, decode, drawWave } from "./sound.js";

const client = chance();
const player = new Player();
const FULL = 0.999; // of full scale: flat tops are no peaks of speech
const QUIET = 0.05;
let name = "";
let item = null;
let capture = null;
let take = null; // { blob, id }
let isBusy = false;

function show(reply) {
  item = reply.item;
  take = null;
  player.stop(0);
  player.buffer = null;
  element("progress").textContent = `${reply.read} of ${reply.total} read by you, ${reply.recordings} recordings in all`;
  element("work").hidden = !item;
  element("loudness").textContent = "";
  element("wave").hidden = true;
  element("level").value = 0;
  element("hear").disabled = element("keep").disabled = true;
  if (!item) {
    say("All is read. Thank you.");
    return;
  }
  element("sentence").textContent = item.text;
  showUnknown(element("unknown"), item.text, reply.alphabet);
  say("");
}

function press(isOn) {
  const button = element("record");
  button.setAttribute("aria-pressed", String(isOn));
  button.firstChild.textContent = isOn ? "Stop " : take ? "Again " : "Record ";
}

async function start() {
  player.stop();
  const fresh = new Capture();
  let clipped = 0;
  isBusy = true;
  try {
    await fresh.start((block, level) => {
      clipped += block.reduce((sum, value) => sum + (Math.abs(value) >= FULL), 0);
      if (capture === fresh) element("level").value = level;
      if (clipped) element("loudness").textContent = "Too loud: it is clipped. Go further from the microphone.";
    }, true);
    capture = fresh;
    take = null;
    element("hear").disabled = element("keep").disabled = true;
    element("loudness").textContent = "";
    say("Recording: read the sentence aloud.");
  } catch (error) {
    say(error.message, true);
  } finally {
    isBusy = false;
    press(capture !== null);
  }
}

async function stop() {
  capture.stop();
  const { samples, rate } = capture.recorded();
  capture = null;
  element("level").value = 0;
  if (!samples.length) {
    press(false);
    say("Nothing was recorded.", true);
    return;
  }
  take = { blob: asWav(samples, rate), id: chance() };
  press(false);
  player.buffer = await decode(take.blob, { samples, rate });
  element("hear").disabled = element("keep").disabled = false;
  element("wave").hidden = false;
  judge(samples);
  draw();
  say("Listen: keep it, or read it again.");
  hear();
}

function judge(samples) {
  const peak = samples.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const clipped = samples.reduce((sum, value) => sum + (Math.abs(value) >= FULL), 0);
  const decibels = peak ? `${(20 * Math.log10(peak)).toFixed(1)} dB` : "silence";
  const advice = clipped ? `clipped at ${clipped} samples: read it again, further from the microphone`
    : peak < QUIET ? "very quiet: go nearer to the microphone" : "good";
  element("loudness").textContent = `${(samples.length / player.buffer.sampleRate).toFixed(1)} s, peak ${decibels}, ${advice}`;
  element("loudness").classList.toggle("warning", clipped > 0 || peak < QUIET);
}

function draw() {
  if (!player.buffer || element("wave").hidden) return;
  drawWave(element("wave"), player.buffer, getComputedStyle(document.body).getPropertyValue("--mark"));
}

function hear() {
  if (player.isPlaying) player.stop();
  else if (player.buffer) player.play(0, player.buffer.duration);
}

async function ask(path, body) {
  if (isBusy || !item || capture) return;
  isBusy = true;
  try {
    show(await insist(() => tell(path, body)));
    press(false);
  } catch (error) {
    say(error.message, true);
  } finally {
    isBusy = false;
  }
}

function keep() {
  if (!take || !item) return;
  const query = new URLSearchParams({ client, name, number: item.number, take: take.id });
  ask(`/record/keep?${query}`, take.blob);
}

const actions = {
  record: () => { if (!isBusy) (capture ? stop() : start()); },
  hear, keep, skip: () => ask("/record/skip", { client, name, number: item.number }),
};
for (const [id, action] of Object.entries(actions)) element(id).addEventListener("click", () => action());
document.addEventListener("keydown", (event) => {
  if (!item || element("work").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  const action = { " ": "record", Enter: "keep", h: "hear", s: "skip" }[event.key];
  if (!action || event.repeat || event.target.tagName === "INPUT") return;
  event.preventDefault();
  if (!element(action).disabled) actions[action]();
});
window.addEventListener("resize", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
welcome(async (who) => {
  name = who;
  show(await tell("/record/next", { client, name }));
});
