/* A transcript as files: plain text, subtitles, JSON. Shapes are those of `asr transcribe`. */

const MOST_CHARACTERS = 42; // of a line of subtitles
const MOST_SECONDS = 7; // that it stands
const LONG_PAUSE = 1; // seconds that end it

export const FORMATS = {
  txt: ({ text }) => `${text}\n`,
  json: (result) => `${JSON.stringify(result, null, 1)}\n`,
  srt: ({ words }) => captions(words)
    .map(({ text, start, end }, i) => `${i + 1}\n${time(start, ",")} --> ${time(end, ",")}\n${text}\n`)
    .join("\n"),
  vtt: ({ words }) => ["WEBVTT\n", ...captions(words)
    .map(({ text, start, end }) => `${time(start, ".")} --> ${time(end, ".")}\n${text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")}\n`)]
    .join("\n"),
};

function captions(words) {
  const result = [];
  for (const { text, start, end } of words) {
    const last = result.at(-1);
    const fits = last && start - last.end < LONG_PAUSE && end - last.start <= MOST_SECONDS
      && last.text.length + 1 + text.length <= MOST_CHARACTERS;
    if (fits) Object.assign(last, { text: `${last.text} ${text}`, end });
    else result.push({ text, start, end });
  }
  return result;
}

function time(seconds, point) {
  const milliseconds = Math.round(seconds * 1000);
  const part = (value, width) => String(Math.floor(value)).padStart(width, "0");
  const [hours, minutes] = [milliseconds / 3600000, (milliseconds / 60000) % 60];
  return `${part(hours, 2)}:${part(minutes, 2)}:${part((milliseconds / 1000) % 60, 2)}${point}${part(milliseconds % 1000, 3)}`;
}
