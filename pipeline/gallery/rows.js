"use strict";
// What the page knows: the rows of predictions.parquet, which of them are shown, their pictures.

const about = JSON.parse(document.getElementById("about").textContent);
const byId = (id) => document.getElementById(id);

// A name may hold characters that cannot be seen, or that turn what follows them around.
const visible = (text) =>
  text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, (c) => `\\u${c.codePointAt(0).toString(16).padStart(4, "0")}`);

// Mean entropy of what is asked, as a share of the most that there can be: 0 sure, 1 not at all.
function unsureness(probability) {
  const terms = (p) => (p > 0 ? -p * Math.log(p) : 0);
  if (about.multi_label) {
    const each = probability.map((p) => (terms(p) + terms(1 - p)) / Math.LN2);
    return each.reduce((sum, value) => sum + value, 0) / each.length;
  }
  return probability.reduce((sum, p) => sum + terms(p), 0) / Math.log(probability.length);
}

const rows = JSON.parse(byId("rows").textContent).map((cells, number) => {
  const [scan, ok, predicted, probability, within, shift, flags, code, reason, picture] = cells;
  const classes = about.multi_label ? predicted.split(";").filter(Boolean) : [predicted].filter(Boolean);
  const chosen = about.multi_label ? -1 : about.classes.indexOf(predicted);
  const best = probability.indexOf(Math.max(...probability));
  return {
    number, scan, ok: ok === 1, classes, probability, within, shift, flags, code, reason, picture,
    shownClass: chosen >= 0 ? chosen : best,  // of no class, or of several: the most probable one
    unsure: ok ? unsureness(probability) : -1,
    open: about.multi_label ? within.filter((name) => name.endsWith("?")).length : within.length,
    text: [scan, ...classes, ...flags, code, reason].join("\n").toLowerCase(),
  };
});

const probabilityOf = (row, index) => row.probability[index < 0 ? row.shownClass : index];

function matches(row, wanted) {
  if (wanted.status && (wanted.status === "ok") !== row.ok) return false;
  if (wanted.class === "-" ? !row.ok || row.classes.length : wanted.class && !row.classes.includes(wanted.class)) return false;
  if (wanted.flag === "-" ? row.flags.length : wanted.flag === "+" ? !row.flags.length : wanted.flag && !row.flags.includes(wanted.flag)) return false;
  if (wanted.set && (!row.ok || wanted.set !== setKind(row))) return false;
  if (wanted.from !== null || wanted.to !== null) {
    if (!row.ok) return false;
    const p = probabilityOf(row, wanted.of);
    if (p < (wanted.from ?? 0) || p > (wanted.to ?? 1)) return false;
  }
  return wanted.words.every((word) => row.text.includes(word));
}

function setKind(row) {
  if (about.multi_label) return row.open ? "many" : "one";
  return row.open === 1 ? "one" : row.open ? "many" : "none";
}

// Largest first; what has no such number stands last; rows are in the order of their names already.
const ORDERS = {
  name: () => 0,
  unsure: (row) => (row.ok ? row.unsure : -Infinity),
  sure: (row) => (row.ok ? -row.unsure : -Infinity),
  high: (row, wanted) => (row.ok ? probabilityOf(row, wanted.of) : -Infinity),
  low: (row, wanted) => (row.ok ? -probabilityOf(row, wanted.of) : -Infinity),
  shift: (row) => row.shift ?? -Infinity,
};

function chosenRows(wanted) {
  const found = rows.filter((row) => matches(row, wanted));
  const keys = new Map(found.map((row) => [row, ORDERS[wanted.sort](row, wanted)]));
  const compare = (a, b) => (keys.get(a) === keys.get(b) ? a.number - b.number : keys.get(b) - keys.get(a));
  return wanted.sort === "name" ? found : found.sort(compare);
}

// Pictures stand behind the script, many in one block: a block is cut up when it is first needed.
const blocks = new Map();

// [picture, map] as base64 (no map: not explained; an empty one: nothing speaks for the class), or null while the page is still being read.
function pictureOf(row) {
  if (row.picture < 0) return null;
  const number = Math.floor(row.picture / about.block);
  if (!blocks.has(number)) {
    const block = byId(`pictures-${number}`);
    if (!block || (document.readyState === "loading" && !block.nextElementSibling)) return null;
    blocks.set(number, block.textContent.slice(1, -1).split("\n"));
  }
  return blocks.get(number)[row.picture % about.block].split(" ");
}
