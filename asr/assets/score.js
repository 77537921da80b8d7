"use strict";
const value = (row, column) => {
  const cell = row.cells[column];
  return cell.dataset.sort ?? cell.textContent.trim();
};
const compare = (a, b) => {
  const [x, y] = [Number(a), Number(b)];
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
};
for (const header of document.querySelectorAll("th")) {
  header.querySelector("button").addEventListener("click", () => {
    const body = header.closest("table").tBodies[0];
    const wasDescending = header.getAttribute("aria-sort") === "descending";
    const sign = wasDescending ? 1 : -1;
    for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", wasDescending ? "ascending" : "descending");
    const rows = [...body.rows].sort(
      (a, b) => sign * compare(value(a, header.cellIndex), value(b, header.cellIndex)));
    body.append(...rows);
  });
}
const filter = document.getElementById("filter");
filter.addEventListener("input", () => {
  const wanted = filter.value.toLowerCase();
  for (const row of document.querySelectorAll("#utterances tbody tr")) {
    row.hidden = !row.textContent.toLowerCase().includes(wanted);
  }
});
