/* A speech recognizer in the browser: samples in, words out.

     import { load } from "./recognizer.js";
     const recognizer = await load();
     const { text, words } = await recognizer.recognize(samples, sampleRate);

   It asks no address but its own folder for anything, and sends nothing anywhere. The network computes its
   features itself (model.onnx takes samples); what is here is the best path, as `asr transcribe` reads it.
*/

import * as ort from "./runtime/ort.wasm.min.mjs";

// One thread: more need a page that is isolated from other origins by its server's headers.
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = new URL("./runtime/", import.meta.url).href;

const LONGEST = 40; // seconds that the network is given at once
const SHORTEST = 6; // seconds of a piece of more
const HOP = 0.02; // seconds from one measurement of the level to the next
const LEAST = 1e-10; // of a probability whose logarithm is taken
const ZEROS = 24; // of the resampling filter, on each side

/** Load model.json and model.onnx of a folder, by default the one that this file is in. */
export async function load(folder = "./") {
  const base = new URL(folder, import.meta.url);
  const [model, network] = await Promise.all([
    fetched(new URL("model.json", base)).then((response) => response.json()),
    fetched(new URL("model.onnx", base)).then((response) => response.arrayBuffer()),
  ]);
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

  async #read(sound, start) {
    if (sound.length < this.model.shortest) return [];
    const { log_probs: output, num_steps: steps } = await this.session.run({
      waveforms: new ort.Tensor("float32", sound, [1, sound.length]),
      num_samples: new ort.Tensor("int64", BigInt64Array.of(BigInt(sound.length)), [1]),
    });
    const width = output.dims[2];
    const logProbs = output.data.subarray(0, Number(steps.data[0]) * width);
    const seconds = sound.length / this.model.sampleRate;
    return this.#words(logProbs, width).map(({ text, first, last, confidence }) => ({
      text,
      start: start + Math.min(first * this.model.stepSeconds, seconds),
      end: start + Math.min(last * this.model.stepSeconds, seconds),
      confidence,
    }));
  }

  #words(logProbs, width) {
    const { symbols, isPhones } = this.model;
    const words = [];
    let spans = [];
    const close = () => {
      if (spans.length) words.push(this.#word(spans, logProbs, width));
      spans = [];
    };
    for (const span of tokenSpans(logProbs, width)) {
      let symbol = symbols[span.token];
      // SentencePiece's mark begins a word.
      if (isPhones || symbol === " " || symbol.startsWith("\u2581")) close();
      symbol = isPhones ? symbol : symbol.replaceAll("\u2581", "").trim();
      if (symbol) spans.push({ ...span, symbol });
    }
    close();
    return words;
  }

  #word(spans, logProbs, width) {
    const [first, last] = [spans[0].first, spans.at(-1).last];
    const logs = spans.map((span) => Math.log(Math.max(span.probability, LEAST)));
    const mean = logs.reduce((total, log) => total + log, 0) / logs.length;
    let confidence = Math.exp(mean);
    const map = this.model.confidence;
    if (map) {
      let entropy = 0;
      for (const log of logProbs.subarray(first * width, last * width)) {
        entropy -= Math.exp(log) * Math.max(log, Math.log(LEAST));
      }
      const evidence = [mean, Math.min(...logs), entropy / (last - first), Math.log(logs.length)];
      const value = evidence.reduce((total, item, i) => total + item * map.weights[i], map.bias);
      confidence = 1 / (1 + Math.exp(-Math.max(-60, Math.min(60, value))));
    }
    return { text: spans.map((span) => span.symbol).join(""), first, last, confidence };
  }
}

/** Runs of the best token of each step that are no blank (token 0). */
export function tokenSpans(logProbs, width) {
  const spans = [];
  let previous = 0;
  for (let step = 0; step * width < logProbs.length; step++) {
    const row = logProbs.subarray(step * width, (step + 1) * width);
    let token = 0;
    for (let other = 1; other < width; other++) if (row[other] > row[token]) token = other;
    if (token !== 0 && token !== previous) spans.push({ token, first: step, last: step, sum: 0 });
    if (token !== 0) {
      const span = spans.at(-1);
      span.last = step + 1;
      span.sum += Math.exp(row[token]);
    }
    previous = token;
  }
  return spans.map(({ token, first, last, sum }) => ({
    token, first, last, probability: sum / (last - first),
  }));
}

/** Samples at another rate, by a windowed sinc that lets nothing above half of either rate pass. */
export function resample(samples, from, to) {
  if (from === to) return samples;
  const ratio = from / to;
  const stretch = Math.max(1, ratio); // of the filter, where the new rate is the lower one
  const reach = ZEROS * stretch;
  const result = new Float32Array(Math.max(1, Math.round(samples.length / ratio)));
  for (let index = 0; index < result.length; index++) {
    const place = index * ratio;
    const first = Math.max(0, Math.ceil(place - reach));
    const last = Math.min(samples.length - 1, Math.floor(place + reach));
    let sum = 0;
    let weights = 0;
    for (let other = first; other <= last; other++) {
      const x = (other - place) / stretch;
      const hann = 0.5 + 0.5 * Math.cos((Math.PI * (other - place)) / reach);
      const weight = x === 0 ? 1 : (Math.sin(Math.PI * x) / (Math.PI * x)) * hann;
      sum += weight * samples[other];
      weights += weight;
    }
    result[index] = sum / (first === 0 || last === samples.length - 1 ? weights : stretch);
  }
  return result;
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
