/* A speech recognizer in the browser: samples in, words out.

     import { load } from "./recognizer.js";
     const recognizer = await load();
     const { text, words } = await recognizer.recognize(samples, sampleRate);

   and, with a network of one direction, as they arrive:

     const stream = recognizer.stream(sampleRate);
     const { text, words } = await stream.accept(portion); // again and again, one after the other
     const { words } = await stream.finish();

   It asks no address but its own folder for anything, and sends nothing anywhere. The network computes its
   features itself: model.onnx takes samples; step.onnx those that follow others.
*/

import * as ort from "./runtime/ort.wasm.min.mjs";
import { LiveStream, StepStream } from "./live.js";
import { resample } from "./resampler.js";
import { wordsOf } from "./words.js";

export { resample };

// One thread: more need a page that is isolated from other origins by its server's headers.
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = new URL("./runtime/", import.meta.url).href;

const LONGEST = 40; // seconds that the network is given at once
const SHORTEST = 6; // seconds of a piece of more
const HOP = 0.02; // seconds from one measurement of the level to the next

/** Load model.json and the network of a folder, by default the one that this file is in. */
export async function load(folder = "./") {
  const base = new URL(folder, import.meta.url);
  const model = await (await fetched(new URL("model.json", base))).json();
  const name = model.stream ? "step.onnx" : "model.onnx";
  const network = await (await fetched(new URL(name, base))).arrayBuffer();
  const session = await ort.InferenceSession.create(new Uint8Array(network), {
    executionProviders: ["wasm"],
    logSeverityLevel: 3,
  });
  return new Recognizer(model, session);
}

async function fetched(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address}: ${response.status} ${response.statusText}`);
  return response;
}

export class Recognizer {
  constructor(model, session) {
    this.model = model;
    this.session = session;
  }

  /** The words of mono samples in [-1, 1].
   *
   * @param {Float32Array} samples
   * @param {number} rate Hz, of the samples
   * @param {(share: number) => void} [progress] told how much is done, 0 to 1
   * @returns {Promise<{text: string, duration: number,
   *     words: {text: string, start: number, end: number, confidence: number}[]}>} seconds
   */
  async recognize(samples, rate, progress = () => {}) {
    if (!(samples instanceof Float32Array)) throw new TypeError("samples: a Float32Array is expected");
    if (!(rate >= 1000 && rate <= 768000)) throw new RangeError(`sample rate ${rate} Hz`);
    const sound = resample(samples, rate, this.model.sampleRate);
    const words = [];
    for (const [start, end] of pieces(sound, this.model.sampleRate)) {
      words.push(...(await this.#read(sound.subarray(start, end), start / this.model.sampleRate)));
      progress(end / sound.length);
    }
    return {
      text: words.map((word) => word.text).join(this.model.separator),
      duration: samples.length / rate,
      words,
    };
  }

  /** Speech as it arrives, for a network of one direction; see `LiveStream`.
   *
   * @param {number} rate Hz, of the samples that will arrive
   */
  stream(rate) {
    if (!this.model.stream) throw new Error("this network needs whole utterances");
    return new LiveStream(this.model, () => new StepStream(this.session, this.model), rate);
  }

  async #read(sound, start) {
    if (sound.length < this.model.shortest) return [];
    const logProbs = await this.#logProbs(sound);
    const seconds = sound.length / this.model.sampleRate;
    return wordsOf(logProbs, this.model.symbols.length, this.model).map(({ text, first, last, confidence }) => ({
      text,
      start: start + Math.min(first * this.model.stepSeconds, seconds),
      end: start + Math.min(last * this.model.stepSeconds, seconds),
      confidence,
    }));
  }

  async #logProbs(sound) {
    if (this.model.stream) return new StepStream(this.session, this.model).accept(sound, true);
    const { log_probs: output, num_steps: steps } = await this.session.run({
      waveforms: new ort.Tensor("float32", sound, [1, sound.length]),
      num_samples: new ort.Tensor("int64", BigInt64Array.of(BigInt(sound.length)), [1]),
    });
    return output.data.subarray(0, Number(steps.data[0]) * output.dims[2]);
  }
}

/** Bounds of pieces that are not too long; each ends where it is quietest. */
export function pieces(sound, rate) {
  const [longest, shortest] = [LONGEST * rate, SHORTEST * rate];
  const hop = Math.max(1, Math.round(HOP * rate));
  const bounds = [];
  let start = 0;
  while (sound.length - start > longest) {
    let [end, least] = [start + longest, Infinity];
    for (let place = start + shortest; place + 10 * hop <= start + longest; place += hop) {
      let energy = 0;
      for (let index = place; index < place + 10 * hop; index++) energy += sound[index] ** 2;
      if (energy < least) [end, least] = [place + 5 * hop, energy];
    }
    bounds.push([start, end]);
    start = end;
  }
  bounds.push([start, sound.length]);
  return bounds;
}
