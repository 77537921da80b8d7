/* The recognizer in a thread of its own, so that the page stays awake. */

import { load } from "./recognizer.js";

const loading = load();
loading.then(
  () => postMessage({ ready: true }),
  (error) => postMessage({ trouble: String(error.message ?? error) }),
);
let stream = null;

/* What can be asked for; each with the samples and their rate. */
const tasks = {
  recognize: (recognizer, { id, samples, rate }) =>
    recognizer.recognize(samples, rate, (share) => postMessage({ id, share })),
  listen(recognizer, { rate }) {
    stream = recognizer.stream(rate);
  },
  accept: (_, { samples }) => stream.accept(samples),
  finish: () => stream.finish(),
};

// One after the other: what a stream has heard decides what it hears next.
let before = Promise.resolve();
onmessage = ({ data }) => {
  before = before.then(() => answer(data));
};

async function answer(data) {
  const { id, task } = data;
  try {
    const recognizer = await loading;
    const start = performance.now();
    const result = await tasks[task](recognizer, data);
    postMessage({ id, result, seconds: (performance.now() - start) / 1000 });
  } catch (error) {
    postMessage({ id, trouble: String(error.message ?? error) });
  }
}
