// The page for reviewing: a stretch at a time, what is said in it, and one decision. Texts are only set as text.
import { chance, sound, tell, ask, models } from "./server.js";
import { element, insist, Player, say, showUnknown, welcome } from "./desk.js";
import { decode, drawWave } from "./sound.js";
import { Transcript } from "./transcript.js";

const client = chance();
const player = new Player();
const transcript = new Transcript(element("words"), (word) =>
  player.play(item.start - item.audio.start + word.start - 0.05, item.start - item.audio.start + word.end + 0.05));
const HOLD = 30000; // milliseconds between signs of life
let name = "";
let item = null;
let parts = []; // { start, end, text } in seconds of the file
let current = 0;
let isAgain = false;
let isBusy = false;
const past = []; // numbers that were decided here
let model = "";

function show(progress) {
  const { total, decided, skipped, unclear, others } = progress;
  const rest = [skipped && `${skipped} skipped`, unclear && `${unclear} unclear`, others && `${others} with others`];
  element("progress").textContent = [`${decided} of ${total} done`, ...rest.filter(Boolean)].join(", ");
}

async function next() {
  const reply = await insist(() => tell("/review/next", { client }));
  show(reply);
  isAgain = false;
  take(reply.item, reply.others
    ? "Nothing is left but what others have." : "All is done. Thank you.");
}

function take(fresh, otherwise = "") {
  player.stop();
  item = fresh;
  element("work").hidden = !item;
  element("back").disabled = !past.length;
  if (!item) {
    say(otherwise);
    return;
  }
  player.buffer = null;
  parts = item.decided.length ? item.decided : [{ start: item.start, end: item.end, text: item.text ?? "" }];
  parts = parts.map((part) => ({ ...part }));
  current = 0;
  transcript.clear();
  transcript.add(item.words.map(({ word, start, end, confidence }) => ({ word, start, end, probability: confidence })));
  element("heard-title").hidden = !item.words.length;
  element("which").textContent = [item.speaker, item.id].filter(Boolean).join(" · ");
  element("sound").hidden = item.problem !== null;
  say(item.problem ?? "", item.problem !== null);
  render();
  if (item.problem === null) listen(item); // which nobody has to wait for
}

async function listen(wanted) {
  try {
    const blob = await insist(() => sound(`/review/audio/${wanted.number}`));
    if (item !== wanted) return;
    player.buffer = await decode(blob, null);
    if (item !== wanted) return;
    say("");
    player.stop(parts[0].start - item.audio.start);
    draw();
    play();
    if (item.text === null && !item.decided.length) await guess(blob, wanted);
  } catch (error) {
    if (item === wanted) say(error.message, true);
  }
}

// Of a stretch without a machine's text, what the model hears.
async function guess(blob, wanted) {
  say("The model listens…");
  const reply = await ask(blob, "stretch.wav", model, "json");
  if (item !== wanted) return;
  say("");
  if (parts.length === 1 && !parts[0].text) {
    parts[0].text = reply.text;
    render();
  }
}

function render() {
  element("parts").replaceChildren(...parts.map((part, place) => {
    const label = document.createElement("label");
    label.className = "part";
    const title = document.createElement("span");
    title.className = "small";
    const text = document.createElement("textarea");
    text.value = part.text;
    text.dir = "auto";
    text.rows = 2;
    text.spellcheck = false;
    text.addEventListener("input", () => {
      part.text = text.value;
      check();
    });
    text.addEventListener("focus", () => { current = place; draw(); });
    label.append(title, text);
    return label;
  }));
  check();
  name_parts();
  element("parts").querySelectorAll("textarea")[current]?.focus();
}

function name_parts() {
  element("parts").querySelectorAll(".part span").forEach((title, place) => {
    const { start, end } = parts[place];
    const number = parts.length > 1 ? ` ${place + 1}` : "";
    title.textContent = `Text${number}, ${(start - item.start).toFixed(2)} to ${(end - item.start).toFixed(2)} s`;
  });
}

function check() {
  showUnknown(element("unknown"), parts.map((part) => part.text).join(" "), item.alphabet);
}

function draw() {
  if (!item || !player.buffer) return;
  const style = getComputedStyle(document.body);
  const canvas = element("wave");
  drawWave(canvas, player.buffer, style.getPropertyValue("--mark"));
  const context = canvas.getContext("2d");
  const scale = canvas.width / player.buffer.duration;
  const at = (seconds) => (seconds - item.audio.start) * scale;
  context.globalAlpha = 0.75;
  context.fillStyle = style.getPropertyValue("--panel");
  let left = 0;
  for (const part of parts) { // what is outside of all parts is faint
    context.fillRect(left, 0, Math.max(0, at(part.start) - left), canvas.height);
    left = at(part.end);
  }
  context.fillRect(left, 0, canvas.width - left, canvas.height);
  context.globalAlpha = 1;
  context.fillStyle = style.getPropertyValue("--soft");
  parts.forEach((part) => [part.start, part.end].forEach((time) => context.fillRect(at(time) - 1, 0, 2, canvas.height)));
  context.fillStyle = style.getPropertyValue("--lost");
  context.fillRect(player.place * scale - 1, 0, 2, canvas.height);
}

function play() {
  const { start, end } = parts[current];
  player.play(start - item.audio.start, end - item.audio.start);
}

const here = () => item.audio.start + player.place;

function trim(edge) {
  const part = parts[current];
  const [least, most] = edge === "start"
    ? [current ? parts[current - 1].end : item.audio.start, part.end - 0.05]
    : [part.start + 0.05, current + 1 < parts.length ? parts[current + 1].start : item.audio.end];
  part[edge] = Math.min(most, Math.max(least, here()));
  name_parts();
  draw();
}

function split() {
  const part = parts[current];
  const time = here();
  if (time < part.start + 0.05 || time > part.end - 0.05) {
    say("Stop the sound, or click into it, where it is to be split.");
    return;
  }
  const text = element("parts").querySelectorAll("textarea")[current];
  const place = text.selectionStart;
  parts.splice(current, 1, { start: part.start, end: time, text: part.text.slice(0, place).trim() },
    { start: time, end: part.end, text: part.text.slice(place).trim() });
  player.stop();
  current += 1;
  render();
  draw();
}

function undo() {
  parts = [{ start: item.start, end: item.end, text: item.text ?? "" }];
  current = 0;
  render();
  draw();
}

async function decide(decision) {
  if (isBusy || !item) return;
  isBusy = true;
  const { number } = item;
  try {
    player.stop();
    const message = { client, number, name, decision, again: isAgain };
    show(await insist(() => tell("/review/decide", decision === "text" ? { ...message, parts } : message)));
    past.push(number);
    await next();
  } catch (error) {
    // Whoever was quicker has it; anything else is told, and the text stays.
    say(error.message, true);
    if (error.status === 409) {
      await next();
      say(error.message, true);
    }
  } finally {
    isBusy = false;
  }
}

async function back() {
  if (isBusy || !past.length) return;
  const number = past.pop();
  try {
    const reply = await insist(() => tell("/review/open", { client, number }));
    show(reply);
    isAgain = true;
    take(reply.item);
  } catch (error) {
    say(error.message, true);
  }
}

const actions = {
  save: () => decide("text"), unclear: () => decide("unclear"), skip: () => decide("skipped"), back,
  play: () => (player.isPlaying ? player.stop() : play()),
  from: () => trim("start"), to: () => trim("end"), split, undo,
};
for (const [id, action] of Object.entries(actions)) element(id).addEventListener("click", () => action());
const KEYS = { KeyU: "unclear", KeyS: "skip", KeyB: "back", KeyX: "split", KeyZ: "undo", BracketLeft: "from", BracketRight: "to" };
document.addEventListener("keydown", (event) => {
  if (!item || element("work").hidden || event.ctrlKey || event.metaKey || event.isComposing) return;
  const isText = event.target.tagName === "TEXTAREA";
  let action = isText && !event.altKey ? null : KEYS[event.code] ?? { "[": "from", "]": "to" }[event.key];
  if (isText && event.key === "Enter") action = "save";
  if (isText && event.key === "Tab" && !event.shiftKey) action = "play";
  if (isText && event.key === "Escape") event.target.blur();
  if (!isText && event.target.tagName !== "BUTTON" && event.key === "Enter") action = "save";
  if (!isText && event.target.tagName !== "BUTTON" && event.key === " ") action = "play";
  if (!action) return;
  event.preventDefault();
  actions[action]();
});
element("wave").addEventListener("click", (event) => {
  if (!player.buffer) return;
  const time = (event.offsetX / element("wave").clientWidth) * player.buffer.duration + item.audio.start;
  const place = parts.findIndex((part) => time >= part.start && time < part.end);
  if (place >= 0 && place !== current) {
    current = place;
    element("parts").querySelectorAll("textarea")[place].focus();
  }
  player.play(time - item.audio.start, (place >= 0 ? parts[place].end : item.audio.end) - item.audio.start);
});
player.moved = draw;
window.addEventListener("resize", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
setInterval(() => {
  if (item && !isBusy) tell("/review/hold", { client, number: item.number }).then(show).catch(() => {});
}, HOLD);
welcome(async (who) => {
  name = who;
  [model] = await models();
  await next();
});
