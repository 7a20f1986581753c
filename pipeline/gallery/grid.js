// The grid: rows of tiles, of which only those in view (and the one in use) are in the document.

const grid = byId("grid");
const space = byId("space");
const GAP = 10;
const LEAST_WIDTH = 150;
const MOST_LEAST_WIDTH = 260;
const ANSWER_REM = 0.92;
const SET_REM = 0.82;
const WORDS_REM = 5.25;
const NAME_LETTERS = 20;
const BEYOND = 2;  // rows above and below the view

let shown = rows;
let active = 0;  // place in `shown` of the scan that has the focus, or had it last
let columns = 1;
let tile = LEAST_WIDTH;
let rowHeight = 1;
const drawn = new Map();  // number of a row -> its element

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function bar(probability, index) {
  const made = element("div", `bar c${about.classes.length > 6 ? "" : index}`);
  const filled = element("i");
  filled.style.width = `${100 * probability}%`;
  made.append(filled);
  return made;
}

// The picture of a scan with its map upon it; why there is no answer where there is none.
function pictureBox(row) {
  const box = element("div", "picture");
  if (!row.ok) {
    const reason = element("div", "reason");
    reason.append(element("b", "", row.code), element("bdi", "", visible(row.reason)));
    box.append(reason);
    return box;
  }
  const found = pictureOf(row);
  if (!found) return box;
  found.filter(Boolean).forEach((data, layer) => {
    const image = element("img", layer ? "over" : "");
    image.alt = "";
    image.draggable = false;
    image.src = `data:image/${layer ? "png" : "jpeg"};base64,${data}`;
    box.append(image);
  });
  return box;
}

// A file and its folder; of a long name the end, where the scans of a folder differ.
function shortName(scan) {
  const letters = [...visible(scan.split("/").slice(-2).join("/"))];
  return letters.length > NAME_LETTERS ? `…${letters.slice(1 - NAME_LETTERS).join("")}` : letters.join("");
}
const setText = (row) => (row.within.length ? `{${row.within.join(", ")}}` : "{ }");
const classText = (row) => row.classes.join(", ") || (about.multi_label ? "no label" : "no class");
// What is not certain is never shown as if it were.
const shownP = (p, decimals = 3) => {
  const end = 10 ** -decimals;
  if (p > 1 - end / 2 && p < 1) return `>${(1 - end).toFixed(decimals)}`;
  return p > 0 && p < end / 2 ? `<${end.toFixed(decimals)}` : p.toFixed(decimals);
};
const flagText = (flag) => flag.replaceAll("_", " ");

function spoken(row) {
  if (!row.ok) return `${visible(row.scan)}: quarantined, ${row.code}`;
  const p = `${about.classes[row.shownClass]} ${shownP(row.probability[row.shownClass])}`;
  return `${visible(row.scan)}: ${classText(row)}, probability of ${p}, set ${setText(row)}` +
    (row.flags.length ? `, flags ${row.flags.map(flagText).join(", ")}` : "");
}

function cell(row, place) {
  const made = element("div", "scan");
  made.setAttribute("role", "gridcell");
  made.setAttribute("aria-colindex", (place % columns) + 1);
  made.setAttribute("aria-label", spoken(row));
  made.dataset.place = place;
  made.tabIndex = place === active ? 0 : -1;
  made.style.width = `${tile}px`;
  const words = element("div", "words");
  const name = element("p", "name");
  name.append(element("bdi", "", shortName(row.scan)));
  name.title = visible(row.scan);
  words.append(name);
  if (row.ok) {
    const answer = element("p", "answer");
    const p = row.probability[row.shownClass];
    const of = about.multi_label || !row.classes.length ? `${about.classes[row.shownClass]} ` : "";
    answer.append(element("b", "", classText(row)), element("span", "", of + shownP(p)));
    words.append(answer, bar(p, row.shownClass), element("p", "set", setText(row)));
  } else {
    words.append(element("p", "set", "quarantined"));
  }
  const box = pictureBox(row);
  if (row.flags.length) {
    const marks = element("div", "marks");
    marks.append(element("span", "", row.flags.length > 1 ? `⚑ ${row.flags.length} flags` : `⚑ ${flagText(row.flags[0])}`));
    marks.title = row.flags.map(flagText).join("\n");
    box.append(marks);
  }
  made.append(box, words);
  return made;
}

function rowElement(number) {
  const made = element("div", "row");
  made.setAttribute("role", "row");
  made.setAttribute("aria-rowindex", number + 1);
  made.style.transform = `translateY(${number * rowHeight}px)`;
  made.style.gap = `${GAP}px`;
  const first = number * columns;
  shown.slice(first, first + columns).forEach((row, step) => made.append(cell(row, first + step)));
  return made;
}

function draw() {
  const total = Math.ceil(shown.length / columns);
  const first = Math.max(0, Math.floor(grid.scrollTop / rowHeight) - BEYOND);
  const last = Math.min(total, Math.ceil((grid.scrollTop + grid.clientHeight) / rowHeight) + BEYOND);
  const wanted = new Set();
  for (let number = first; number < last; number++) wanted.add(number);
  // What has the focus must not leave the document.
  if (shown.length) wanted.add(Math.floor(active / columns));
  for (const [number, made] of drawn) {
    if (!wanted.has(number)) {
      made.remove();
      drawn.delete(number);
    }
  }
  for (const number of [...wanted].sort((a, b) => a - b)) {
    if (drawn.has(number)) continue;
    const made = rowElement(number);
    const next = [...drawn.keys()].filter((other) => other > number).sort((a, b) => a - b)[0];
    space.insertBefore(made, next === undefined ? null : drawn.get(next));
    drawn.set(number, made);
  }
}

// What a tile needs for the longest class name beside a probability, and for a set of two classes.
function leastWidth(rem) {
  const pen = document.createElement("canvas").getContext("2d");
  const family = getComputedStyle(document.body).fontFamily;
  const wide = (text, size, weight = 400) => {
    pen.font = `${weight} ${size * rem}px ${family}`;
    return pen.measureText(text).width;
  };
  const unnamed = about.multi_label || rows.some((row) => row.ok && !row.classes.length);
  const answers = about.classes.map((name) => {
    const [bold, plain] = unnamed ? [classText({ classes: [] }), `${name} >0.999`] : [name, ">0.999"];
    return wide(bold, ANSWER_REM, 700) + 0.4 * rem + wide(plain, ANSWER_REM);
  });
  const set = about.classes.length > 2 ? 0 : wide(setText({ within: about.classes }), SET_REM);
  const needed = Math.ceil(Math.max(set, ...answers) + rem) + 3;  // with padding and border
  return Math.min(MOST_LEAST_WIDTH, Math.max(LEAST_WIDTH, needed));
}

// Measures, and draws everything anew.
function lay() {
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const width = space.clientWidth;
  columns = Math.max(2, Math.floor((width + GAP) / (leastWidth(rem) + GAP)));
  tile = Math.floor((width - GAP * (columns - 1)) / columns);
  rowHeight = Math.round(tile + WORDS_REM * rem) + GAP;
  space.style.height = `${Math.ceil(shown.length / columns) * rowHeight}px`;
  space.setAttribute("aria-rowcount", Math.ceil(shown.length / columns));
  space.setAttribute("aria-colcount", columns);
  const focused = grid.contains(document.activeElement);
  drawn.forEach((made) => made.remove());
  drawn.clear();
  draw();
  if (focused) focusActive();
}

function cellAt(place) {
  return space.querySelector(`[data-place="${place}"]`);
}

function focusActive() {
  cellAt(active)?.focus({ preventScroll: true });
}

// Makes another scan the one in use, and brings it into view.
function moveTo(place, focus = true) {
  if (!shown.length) return;
  const before = cellAt(active);
  if (before) before.tabIndex = -1;
  active = Math.max(0, Math.min(shown.length - 1, place));
  const top = Math.floor(active / columns) * rowHeight;
  const bottom = top + rowHeight + GAP;
  if (top < grid.scrollTop) grid.scrollTop = top;
  else if (bottom > grid.scrollTop + grid.clientHeight) grid.scrollTop = bottom - grid.clientHeight + GAP;
  draw();
  const made = cellAt(active);
  made.tabIndex = 0;
  if (focus) focusActive();
}

const STEPS = {
  ArrowLeft: () => active - 1,
  ArrowRight: () => active + 1,
  ArrowUp: () => (active >= columns ? active - columns : active),
  ArrowDown: () => (active + columns < shown.length ? active + columns : active),
  PageUp: () => Math.max(active % columns, active - columns * rowsInView()),
  PageDown: () => active + columns * rowsInView(),
  Home: (event) => (event.ctrlKey ? 0 : active - (active % columns)),
  End: (event) => (event.ctrlKey ? shown.length - 1 : active - (active % columns) + columns - 1),
};

function rowsInView() {
  return Math.max(1, Math.floor(grid.clientHeight / rowHeight));
}

grid.addEventListener("keydown", (event) => {
  if (!event.target.dataset.place) return;
  if (event.key === "Enter" || event.key === " ") openDetail();
  else if (STEPS[event.key]) moveTo(STEPS[event.key](event));
  else return;
  event.preventDefault();
});
grid.addEventListener("click", (event) => {
  const clicked = event.target.closest("[data-place]");
  if (!clicked) return;
  moveTo(Number(clicked.dataset.place));
  openDetail();
});
let waiting = false;
grid.addEventListener("scroll", () => {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    draw();
  });
});
new ResizeObserver(lay).observe(grid);
// Pictures that were not there yet when the first tiles were drawn.
document.addEventListener("DOMContentLoaded", lay);
