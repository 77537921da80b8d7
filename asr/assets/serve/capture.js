// A microphone's sound, as portions of a tenth of a second.
const REASONS = {
  NotAllowedError: "The microphone was refused. Allow it for this page in the browser's address bar, then try again.",
  NotFoundError: "There is no microphone.",
  NotReadableError: "The microphone is in use by another program.",
};

export class Capture {
  #blocks = [];
  #context = null;
  #stream = null;

  // Calls `hear` with each portion; what browsers do to voices in calls is left off where `isPlain`.
  async start(hear, isPlain = false) {
    if (!navigator.mediaDevices) {
      throw new Error("Browsers give the microphone to pages of this machine (127.0.0.1) or with TLS (https) only.");
    }
    const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia(
        { audio: { channelCount: 1, ...(isPlain ? plain : {}) } });
    } catch (error) {
      throw new Error(REASONS[error.name] ?? `The microphone cannot be used: ${error.message}`);
    }
    try {
      await this.#listen(hear);
    } catch (error) {
      this.stop(); // or the browser would go on showing that it records
      throw error;
    }
  }

  async #listen(hear) {
    this.#context = new AudioContext();
    await this.#context.audioWorklet.addModule("/static/recorder.js");
    const source = this.#context.createMediaStreamSource(this.#stream);
    const recorder = new AudioWorkletNode(this.#context, "recorder", { numberOfOutputs: 0 });
    recorder.port.onmessage = ({ data }) => {
      this.#blocks.push(data);
      hear(data, data.reduce((most, value) => Math.max(most, Math.abs(value)), 0));
    };
    source.connect(recorder);
  }

  get rate() {
    return this.#context?.sampleRate ?? 16000;
  }

  stop() {
    this.#stream?.getTracks().forEach((track) => track.stop());
    if (this.#context?.state !== "closed") this.#context?.close();
  }

  recorded() {
    const samples = new Float32Array(this.#blocks.reduce((sum, block) => sum + block.length, 0));
    let place = 0;
    for (const block of this.#blocks) {
      samples.set(block, place);
      place += block.length;
    }
    return { samples, rate: this.rate };
  }
}
