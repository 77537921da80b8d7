/* Speech as it arrives: what `Recognizer.stream` does in Python, for a network of one direction. */

import * as ort from "./runtime/ort.wasm.min.mjs";
import { Resampler, joined } from "./resampler.js";
import { bestTokens, wordsOf } from "./words.js";

const PAUSE = 0.8; // seconds of silence that end a stretch of speech
const LONGEST = 40; // seconds that the network remembers, until the next pause
const QUANTUM = 0.1; // seconds that it is given at once, however they arrive

/** Samples at the model's rate in, log-probabilities out, of one utterance that comes in pieces. */
export class StepStream {
  #samples = new Float32Array(0); // from the last frame that was given
  #given = 0; // frames that these begin with and that were given: 0 or 1

  constructor(session, { stream }) {
    this.session = session;
    this.about = stream;
    this.states = {};
    for (const [name, shape] of Object.entries(stream.states)) {
      const size = shape.reduce((product, length) => product * length, 1);
      this.states[name] = new ort.Tensor("float32", new Float32Array(size), shape);
    }
  }

  /** The next steps one after another; perhaps none. */
  async accept(samples, last = false) {
    const { frameLength, frameShift, subsampling, lookahead, shortest } = this.about;
    const held = joined([this.#samples, samples]);
    this.#samples = held;
    // Before the first step frames are needed that it looks ahead to.
    const spare = this.#given || lookahead;
    const whole = Math.floor(Math.max(0, held.length - frameLength + frameShift) / frameShift);
    const count = Math.floor(Math.max(0, whole - spare) / subsampling) * subsampling;
    if (count === 0 && (!last || held.length < shortest)) return new Float32Array(0);
    const start = (count + spare - 1) * frameShift;
    const used = last ? held : held.slice(0, start + frameLength);
    const output = await this.session.run({
      waveforms: new ort.Tensor("float32", used, [1, used.length]),
      last: new ort.Tensor("int64", BigInt64Array.of(last ? 1n : 0n), [1]),
      ...this.states,
    });
    for (const name of Object.keys(this.states)) this.states[name] = output[`next_${name}`];
    // The last frame stays: the next one's pre-emphasis needs the sample before it.
    this.#samples = held.slice(start);
    this.#given = 1;
    return output.log_probs.data.slice(0, Number(output.num_steps.data[0]) * output.log_probs.dims[2]);
  }
}

/** Speech in, text out. A pause ends a stretch of speech, and with it a word. */
export class LiveStream {
  #waiting = new Float32Array(0);
  #pending = new Float32Array(0); // log-probabilities of what is going on
  #number = 0; // of steps that the network has given since it began
  #origin = 0; // sample at which it began
  #heard = 0; // samples

  /** @param {() => StepStream} open gives a network that has heard nothing */
  constructor(model, open, rate) {
    this.model = model;
    this.open = open;
    this.network = open();
    this.width = model.symbols.length;
    this.resampler = new Resampler(rate, model.sampleRate);
    this.quantum = Math.max(1, Math.round(QUANTUM * model.sampleRate));
    this.pause = this.#steps(PAUSE);
    this.most = this.#steps(LONGEST);
  }

  /** What is known with some more samples.
   *
   * @param {Float32Array} samples
   * @returns {Promise<{text: string, words: object[]}>} the text that is going on and may still
   *     change; and the words of speech that has ended since, in seconds from the start
   */
  async accept(samples) {
    this.#waiting = joined([this.#waiting, this.resampler.accept(samples)]);
    const words = [];
    while (this.#waiting.length >= this.quantum) {
      const part = this.#waiting.slice(0, this.quantum);
      this.#waiting = this.#waiting.slice(this.quantum);
      words.push(...(await this.#hear(part)));
      if (bestTokens(this.#pending, this.width).some((token) => token !== 0)) continue;
      if (this.#number >= this.most) this.#restart();
      this.#pending = new Float32Array(0);
    }
    return this.#known(words);
  }

  /** What is known at the end. */
  async finish() {
    const words = await this.#hear(joined([this.#waiting, this.resampler.finish()]), true);
    words.push(...this.#take(this.#pending.length / this.width));
    return this.#known(words);
  }

  #known(words) {
    const going = wordsOf(this.#pending, this.width, this.model);
    return { text: going.map((word) => word.text).join(this.model.separator), words };
  }

  async #hear(samples, last = false) {
    const steps = await this.network.accept(samples, last);
    this.#heard += samples.length;
    this.#number += steps.length / this.width;
    this.#pending = joined([this.#pending, steps]);
    const words = [];
    for (let end = this.#end(); end !== null; end = this.#end()) words.push(...this.#take(end));
    return words;
  }

  /** Steps up to which a stretch of speech has ended, if one has. */
  #end() {
    const best = bestTokens(this.#pending, this.width);
    let last = null;
    for (let step = 0; step <= best.length; step++) {
      if (step < best.length && best[step] === 0) continue;
      if (last !== null && step - last - 1 >= this.pause) return last + 1 + this.pause;
      last = step;
    }
    const speaks = best.some((token) => token !== 0);
    return speaks && best.length > this.most ? quietest(best, this.#pending, this.width, this.most >> 1) : null;
  }

  #take(count) {
    const segment = this.#pending.slice(0, count * this.width);
    this.#pending = this.#pending.slice(count * this.width);
    const first = this.#number - this.#pending.length / this.width - count;
    const start = this.#origin / this.model.sampleRate;
    return wordsOf(segment, this.width, this.model).map(({ text, first: from, last, confidence }) => ({
      text,
      start: start + (first + from) * this.model.stepSeconds,
      end: start + (first + last) * this.model.stepSeconds,
      confidence,
    }));
  }

  #restart() {
    this.network = this.open();
    [this.#origin, this.#number] = [this.#heard, 0];
  }

  #steps(seconds) {
    return Math.max(1, Math.round(seconds / this.model.stepSeconds));
  }
}

/** The step, from `first` on, before which a transcript is best cut: amid most blanks. */
function quietest(best, logProbs, width, first) {
  let [start, end, from] = [first, first, first];
  for (let step = first; step <= best.length; step++) {
    if (step < best.length && best[step] === 0) continue;
    if (step - from > end - start) [start, end] = [from, step];
    from = step + 1;
  }
  if (end > start) return (start + end) >> 1;
  let quiet = first;
  for (let step = first; step < best.length; step++) {
    if (logProbs[step * width] > logProbs[quiet * width]) quiet = step;
  }
  return quiet;
}
