/* Words of log-probabilities: the best path, as `asr transcribe` reads it. */

const LEAST = 1e-10; // of a probability whose logarithm is taken

/** Words with the steps that they begin and end at, and how sure they are.
 *
 * @param {Float32Array} logProbs of steps after one another, `width` tokens each
 * @param {object} model of model.json
 */
export function wordsOf(logProbs, width, model) {
  const words = [];
  let spans = [];
  const close = () => {
    if (spans.length) words.push(word(spans, logProbs, width, model.confidence));
    spans = [];
  };
  for (const span of tokenSpans(logProbs, width)) {
    let symbol = model.symbols[span.token];
    // SentencePiece's mark begins a word.
    if (model.isPhones || symbol === " " || symbol.startsWith("\u2581")) close();
    symbol = model.isPhones ? symbol : symbol.replaceAll("\u2581", "").trim();
    if (symbol) spans.push({ ...span, symbol });
  }
  close();
  return words;
}

/** @param map of confidences, fitted by `asr tune`; or null */
function word(spans, logProbs, width, map) {
  const [first, last] = [spans[0].first, spans.at(-1).last];
  const logs = spans.map((span) => Math.log(Math.max(span.probability, LEAST)));
  const mean = logs.reduce((total, log) => total + log, 0) / logs.length;
  let confidence = Math.exp(mean);
  if (map) {
    let entropy = 0;
    for (const log of logProbs.subarray(first * width, last * width)) {
      entropy -= Math.exp(log) * Math.max(log, Math.log(LEAST));
    }
    const evidence = [mean, Math.min(...logs), entropy / (last - first), Math.log(logs.length)];
    const value = evidence.reduce((total, item, i) => total + item * map.weights[i], map.bias);
    confidence = bent(1 / (1 + Math.exp(-Math.max(-60, Math.min(60, value)))), map.curve);
  }
  return { text: spans.map((span) => span.symbol).join(""), first, last, confidence };
}

/** What a curve of points makes of a number: between two of them a straight line. */
function bent(value, curve) {
  if (!curve?.length) return value;
  const after = curve.findIndex(([place]) => place > value);
  if (after === 0) return curve[0][1];
  if (after < 0) return curve.at(-1)[1];
  const [[left, low], [right, high]] = [curve[after - 1], curve[after]];
  return low + ((high - low) * (value - left)) / (right - left);
}

/** The most probable token of each step. */
export function bestTokens(logProbs, width) {
  return Array.from({ length: logProbs.length / width }, (_, step) => {
    let token = 0;
    for (let other = 1; other < width; other++) {
      if (logProbs[step * width + other] > logProbs[step * width + token]) token = other;
    }
    return token;
  });
}

/** Runs of the best token of each step that are no blank (token 0). */
function tokenSpans(logProbs, width) {
  const spans = [];
  let previous = 0;
  for (const [step, token] of bestTokens(logProbs, width).entries()) {
    if (token !== 0 && token !== previous) spans.push({ token, first: step, last: step, sum: 0 });
    if (token !== 0) {
      const span = spans.at(-1);
      span.last = step + 1;
      span.sum += Math.exp(logProbs[step * width + token]);
    }
    previous = token;
  }
  return spans.map(({ token, first, last, sum }) => ({
    token, first, last, probability: sum / (last - first),
  }));
}
