/* The recognizer in a thread of its own, so that the page stays awake. */

import { load } from "./recognizer.js";

const loading = load();
loading.then(
  () => postMessage({ ready: true }),
  (error) => postMessage({ trouble: String(error.message ?? error) }),
);

onmessage = async ({ data: { id, samples, rate } }) => {
  try {
    const recognizer = await loading;
    const progress = (share) => postMessage({ id, share });
    const start = performance.now();
    const result = await recognizer.recognize(samples, rate, progress);
    postMessage({ id, result, seconds: (performance.now() - start) / 1000 });
  } catch (error) {
    postMessage({ id, trouble: String(error.message ?? error) });
  }
};
