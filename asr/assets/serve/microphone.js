// A microphone's sound on its way to the server, and what comes back.
import { GONE, openSocket } from "./server.js";

const REASONS = {
  NotAllowedError: "The microphone was refused. Allow it for this page in the browser's address bar, then try again.",
  NotFoundError: "There is no microphone.",
  NotReadableError: "The microphone is in use by another program.",
};

export class Microphone {
  #model;
  #tell;
  #blocks = [];
  #context = null;
  #stream = null;
  #socket = null;
  #ending = null;

  constructor(model, tell) {
    this.#model = model;
    this.#tell = tell;
  }

  async start() {
    if (!navigator.mediaDevices) {
      throw new Error("Browsers give the microphone to pages of this machine (127.0.0.1) or with TLS (https) only.");
    }
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
    } catch (error) {
      throw new Error(REASONS[error.name] ?? `The microphone cannot be used: ${error.message}`);
    }
    this.#context = new AudioContext();
    await this.#context.audioWorklet.addModule("/static/recorder.js");
    await this.#connect();
    const source = this.#context.createMediaStreamSource(this.#stream);
    const recorder = new AudioWorkletNode(this.#context, "recorder", { numberOfOutputs: 0 });
    recorder.port.onmessage = ({ data }) => this.#hear(data);
    source.connect(recorder);
  }

  #connect() {
    return new Promise((resolve, reject) => {
      const socket = openSocket(this.#model);
      this.#socket = socket;
      socket.onopen = () => {
        socket.send(JSON.stringify({ config: { sample_rate: this.#context.sampleRate } }));
        resolve();
      };
      socket.onmessage = ({ data }) => this.#answer(JSON.parse(data));
      socket.onclose = () => {
        this.#release();
        reject(new Error(GONE));
        if (this.#ending) this.#ending.reject(new Error(GONE));
        else this.#tell.ended(GONE);
      };
    });
  }

  #hear(block) {
    this.#blocks.push(block);
    this.#tell.level(block.reduce((most, value) => Math.max(most, Math.abs(value)), 0));
    if (this.#socket.readyState !== WebSocket.OPEN) return;
    this.#socket.send(Int16Array.from(block, (value) =>
      Math.max(-32768, Math.min(32767, Math.round(value * 32768)))));
  }

  #answer(message) {
    if (message.error) {
      this.#socket.onclose = null;
      this.#socket.close();
      this.#release();
      this.#tell.ended(message.error);
      return;
    }
    if (message.partial !== undefined) {
      this.#tell.partial(message.partial);
      return;
    }
    this.#tell.result((message.result ?? []).map(({ word, start, end, conf }) =>
      ({ word, start, end, probability: conf })));
    this.#ending?.resolve();
  }

  // The last result has come when the promise is kept.
  async stop() {
    this.#release();
    const ended = new Promise((resolve, reject) => { this.#ending = { resolve, reject }; });
    this.#ending.resolve = ((resolve) => () => {
      // Results of earlier portions may be on their way; the last one comes with the socket's end.
      this.#socket.onclose = resolve;
    })(this.#ending.resolve);
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send('{"eof": 1}');
    else this.#ending.reject(new Error(GONE));
    await ended;
  }

  #release() {
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
    return { samples, rate: this.#context?.sampleRate ?? 16000 };
  }
}
