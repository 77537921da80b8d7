// Runs beside the sound card: portions of a tenth of a second of the first channel.
class Recorder extends AudioWorkletProcessor {
  #block = new Float32Array(Math.round(sampleRate / 10));
  #count = 0;

  process([input]) {
    for (const value of input[0] ?? []) {
      this.#block[this.#count++] = value;
      if (this.#count === this.#block.length) {
        this.port.postMessage(this.#block.slice());
        this.#count = 0;
      }
    }
    return true;
  }
}
registerProcessor("recorder", Recorder);
