// Samples, and pictures of them.
const SIZE = 512; // samples of a spectrum, a power of two
const FLOOR = 70; // dB below the loudest

// The sound of a file, or null where the browser does not know its format.
export async function decode(blob, recorded) {
  if (recorded) {
    const buffer = new AudioBuffer({ length: recorded.samples.length, sampleRate: recorded.rate });
    buffer.copyToChannel(recorded.samples, 0);
    return buffer;
  }
  try {
    return await new OfflineAudioContext(1, 1, 16000).decodeAudioData(await blob.arrayBuffer());
  } catch {
    return null;
  }
}

// A WAV file of 16 bits.
export function asWav(samples, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const write = (place, text) => [...text].forEach((c, i) => view.setUint8(place + i, c.charCodeAt(0)));
  write(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  write(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  write(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((value, i) =>
    view.setInt16(44 + 2 * i, Math.max(-32768, Math.min(32767, Math.round(value * 32768))), true));
  return new Blob([view], { type: "audio/wav" });
}

function prepare(canvas) {
  canvas.width = Math.max(1, Math.min(1600, canvas.clientWidth * devicePixelRatio));
  return canvas.getContext("2d");
}

export function drawWave(canvas, buffer, ink) {
  const context = prepare(canvas);
  const samples = buffer.getChannelData(0);
  const { width, height } = canvas;
  context.fillStyle = ink;
  for (let x = 0; x < width; x++) {
    let low = 0;
    let high = 0;
    const last = Math.floor(((x + 1) * samples.length) / width);
    for (let i = Math.floor((x * samples.length) / width); i < last; i++) {
      low = Math.min(low, samples[i]);
      high = Math.max(high, samples[i]);
    }
    const top = ((1 - high) * height) / 2;
    context.fillRect(x, top, 1, Math.max(1, ((1 - low) * height) / 2 - top));
  }
}

// From 0 Hz at the bottom to half of the rate, 8 kHz at most, at the top.
export function drawSpectrum(canvas, buffer) {
  const context = prepare(canvas);
  const samples = buffer.getChannelData(0);
  const { width, height } = canvas;
  const bins = Math.min(SIZE / 2, Math.floor((8000 * SIZE) / buffer.sampleRate));
  const columns = [];
  let loudest = -Infinity;
  for (let x = 0; x < width; x++) {
    const column = spectrum(samples, Math.floor((x * samples.length) / width));
    for (let bin = 1; bin < bins; bin++) loudest = Math.max(loudest, column[bin]);
    columns.push(column);
  }
  const image = context.createImageData(width, height);
  for (let x = 0; x < width; x++) {
    for (let y = 0; y < height; y++) {
      const bin = Math.floor(((height - 1 - y) * bins) / height);
      const share = Math.max(0, 1 + (columns[x][bin] - loudest) / FLOOR);
      const place = 4 * (y * width + x);
      image.data[place] = 255 * Math.min(1, 2 * share * share);
      image.data[place + 1] = 255 * share * share * share;
      image.data[place + 2] = 90 * share + 100 * Math.sin(Math.PI * share);
      image.data[place + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
}

// Decibels of each bin, by the fast Fourier transform of Cooley and Tukey.
function spectrum(samples, start) {
  const real = new Float32Array(SIZE);
  const imaginary = new Float32Array(SIZE);
  for (let i = 0, j = 0; i < SIZE; i++) {
    real[j] = (samples[start + i] ?? 0) * Math.sin((Math.PI * i) / SIZE) ** 2;
    let bit = SIZE >> 1;
    while (j & bit) {
      j ^= bit;
      bit >>= 1;
    }
    j |= bit;
  }
  for (let half = 1; half < SIZE; half *= 2) {
    for (let k = 0; k < half; k++) {
      const [cosine, sine] = [Math.cos((Math.PI * k) / half), -Math.sin((Math.PI * k) / half)];
      for (let i = k; i < SIZE; i += 2 * half) {
        const j = i + half;
        const re = real[j] * cosine - imaginary[j] * sine;
        const im = real[j] * sine + imaginary[j] * cosine;
        real[j] = real[i] - re;
        imaginary[j] = imaginary[i] - im;
        real[i] += re;
        imaginary[i] += im;
      }
    }
  }
  return real.map((value, i) => 10 * Math.log10(value ** 2 + imaginary[i] ** 2 + 1e-12));
}
