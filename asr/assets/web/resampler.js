/* Samples at another rate, by a windowed sinc that lets nothing above half of either rate pass. */

const ZEROS = 24; // of the filter, on each side

/** Of samples that arrive in portions; together they give what the whole gives. */
export class Resampler {
  #held = new Float32Array(0);
  #first = 0; // number of the first sample held
  #given = 0; // samples of the new rate

  constructor(from, to) {
    this.ratio = from / to;
    this.stretch = Math.max(1, this.ratio); // of the filter, where the new rate is the lower one
    this.reach = ZEROS * this.stretch;
  }

  /** The samples that are known with some more. */
  accept(samples) {
    if (this.ratio === 1) return samples;
    this.#held = joined([this.#held, samples]);
    const length = this.#first + this.#held.length;
    // As many as have all samples around them that the filter reaches.
    const count = Math.max(this.#given, Math.floor((length - 1 - this.reach) / this.ratio));
    return this.#take(count, Infinity);
  }

  /** The rest. */
  finish() {
    const length = this.#first + this.#held.length;
    if (this.ratio === 1 || length === 0) return new Float32Array(0);
    return this.#take(Math.max(1, Math.round(length / this.ratio)), length);
  }

  /** Samples up to the number `end`, of as many old ones as there are, if that is known. */
  #take(end, length) {
    const result = new Float32Array(Math.max(0, end - this.#given));
    for (let index = 0; index < result.length; index++) {
      result[index] = this.#sample((this.#given + index) * this.ratio, length);
    }
    this.#given += result.length;
    const needed = Math.max(this.#first, Math.ceil(this.#given * this.ratio - this.reach));
    this.#held = this.#held.slice(needed - this.#first);
    this.#first = needed;
    return result;
  }

  #sample(place, length) {
    const first = Math.max(0, Math.ceil(place - this.reach));
    const last = Math.min(length - 1, Math.floor(place + this.reach));
    let sum = 0;
    let weights = 0;
    for (let other = first; other <= last; other++) {
      const x = (other - place) / this.stretch;
      const hann = 0.5 + 0.5 * Math.cos((Math.PI * (other - place)) / this.reach);
      const weight = x === 0 ? 1 : (Math.sin(Math.PI * x) / (Math.PI * x)) * hann;
      sum += weight * this.#held[other - this.#first];
      weights += weight;
    }
    return sum / (first === 0 || last === length - 1 ? weights : this.stretch);
  }
}

export function resample(samples, from, to) {
  const resampler = new Resampler(from, to);
  return joined([resampler.accept(samples), resampler.finish()]);
}

/** Arrays of samples, one after another. */
export function joined(parts) {
  const result = new Float32Array(parts.reduce((total, part) => total + part.length, 0));
  let place = 0;
  for (const part of parts) {
    result.set(part, place);
    place += part.length;
  }
  return result;
}
