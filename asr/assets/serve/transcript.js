// Words, coloured by confidence, each a button that plays it; arrow keys go from one to the next.
const SURE = 0.9;
const DOUBTFUL = 0.6;

export class Transcript {
  words = [];
  #place;
  #play;

  constructor(place, play) {
    this.#place = place;
    this.#play = play;
    place.addEventListener("keydown", (event) => this.#move(event));
  }

  clear() {
    this.words = [];
    this.#place.replaceChildren();
  }

  add(words) {
    for (const word of words) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = word.word;
      const percent = Math.round(100 * word.probability);
      button.title = `${percent} %, ${word.start.toFixed(2)} s`;
      button.className = word.probability >= SURE ? "sure" : word.probability >= DOUBTFUL ? "unsure" : "doubtful";
      button.tabIndex = this.words.length ? -1 : 0;
      button.addEventListener("click", () => this.#play(word));
      this.#place.append(button, " ");
      this.words.push(word);
    }
  }

  #move(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const buttons = [...this.#place.querySelectorAll("button")];
    const next = buttons[buttons.indexOf(document.activeElement) + step];
    if (!step || !next) return;
    event.preventDefault();
    document.activeElement.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }
}
