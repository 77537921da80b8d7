// A microphone's sound on its way to the server, and what comes back.
import { Capture } from "./capture.js";
import { GONE, openSocket } from "./server.js";

export class Microphone {
  #model;
  #tell;
  #capture = new Capture();
  #waiting = []; // what was heard before the socket is open
  #socket = null;
  #ending = null;

  constructor(model, tell) {
    this.#model = model;
    this.#tell = tell;
  }

  async start() {
    await this.#capture.start((block, level) => this.#hear(block, level));
    await this.#connect();
  }

  #connect() {
    return new Promise((resolve, reject) => {
      const socket = openSocket(this.#model);
      this.#socket = socket;
      socket.onopen = () => {
        socket.send(JSON.stringify({ config: { sample_rate: this.#capture.rate } }));
        for (const samples of this.#waiting) socket.send(samples);
        resolve();
      };
      socket.onmessage = ({ data }) => this.#answer(JSON.parse(data));
      socket.onclose = () => {
        this.#capture.stop();
        reject(new Error(GONE));
        if (this.#ending) this.#ending.reject(new Error(GONE));
        else this.#tell.ended(GONE);
      };
    });
  }

  #hear(block, level) {
    this.#tell.level(level);
    const samples = Int16Array.from(block, (value) =>
      Math.max(-32768, Math.min(32767, Math.round(value * 32768))));
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(samples);
    else if (this.#ending === null) this.#waiting.push(samples);
  }

  #answer(message) {
    if (message.error) {
      this.#socket.onclose = null;
      this.#socket.close();
      this.#capture.stop();
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
    this.#capture.stop();
    const ended = new Promise((resolve, reject) => { this.#ending = { resolve, reject }; });
    this.#ending.resolve = ((resolve) => () => {
      // Results of earlier portions may be on their way; the last one comes with the socket's end.
      this.#socket.onclose = resolve;
    })(this.#ending.resolve);
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send('{"eof": 1}');
    else this.#ending.reject(new Error(GONE));
    await ended;
  }

  recorded() {
    return this.#capture.recorded();
  }
}
