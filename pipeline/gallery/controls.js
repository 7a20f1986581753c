// What is asked for: search, filters, order; the enlarged scan; keys that work everywhere.

const controls = byId("controls");
const detail = byId("detail");
const number = (id) => (byId(id).value === "" ? null : Number(byId(id).value));

function wanted() {
  return {
    words: byId("search").value.toLowerCase().split(/\s+/).filter(Boolean),
    sort: byId("sort").value, status: byId("status").value, class: byId("class").value,
    set: byId("set").value, flag: byId("flag").value, of: Number(byId("of").value || -1),
    from: number("from"), to: number("to"),
  };
}

function choose() {
  const kept = shown[active];
  shown = chosenRows(wanted());
  const place = kept ? shown.indexOf(kept) : -1;
  active = Math.max(0, place);
  const filters = ["status", "class", "set", "flag", "from", "to"].filter((id) => byId(id).value !== "");
  byId("active-filters").textContent = filters.length ? ` (${filters.length})` : "";
  const count = shown.length.toLocaleString("en");
  byId("told").textContent = shown.length === rows.length
    ? `${count} scans` : `${count} of ${rows.length.toLocaleString("en")} scans`;
  byId("empty").hidden = shown.length > 0;
  grid.scrollTop = 0;
  lay();
  if (place > 0) moveTo(place, false);
}

function addOptions(id, options) {
  options.forEach(([value, text]) => byId(id).add(new Option(text, value)));
}

addOptions("class", about.classes.map((name) => [name, name]));
if (rows.some((row) => row.ok && !row.classes.length)) {
  addOptions("class", [["-", about.multi_label ? "no label" : "no class"]]);
}
addOptions("flag", [["+", "any flag at all"], ["-", "no flag"], ...Object.keys(about.flags).map((flag) => [flag, flag])]);
addOptions("of", about.classes.map((name, index) => [index, name]));
byId("sort").querySelector("[value=shift]").hidden = !rows.some((row) => row.shift !== null);
controls.addEventListener("input", choose);
controls.addEventListener("submit", (event) => event.preventDefault());
controls.addEventListener("reset", () => setTimeout(choose));  // after the fields are empty
byId("clear-too").addEventListener("click", () => controls.reset());

function detailRow(list, term, content) {
  const told = element("dd");
  told.append(...[content].flat());
  list.append(element("dt", "", term), told);
}

function flagList(row) {
  const list = element("ul");
  row.flags.forEach((flag) => {
    const item = element("li");
    item.append(element("b", "", flag), about.flags[flag] ? `: ${about.flags[flag]}` : "");
    list.append(item);
  });
  return list;
}

function probabilities(row) {
  const table = element("table");
  const order = about.classes.map((_, index) => index);
  if (order.length > 6) order.sort((a, b) => row.probability[b] - row.probability[a]);
  order.forEach((index) => {
    const line = table.insertRow();
    const name = element("th", row.classes.includes(about.classes[index]) ? "chosen" : "", about.classes[index]);
    name.scope = "row";
    const filled = element("td", "fill");
    filled.append(bar(row.probability[index], index));
    line.append(name, filled, element("td", "number", shownP(row.probability[index], 4)));
  });
  return table;
}

function button(text, label, action) {
  const made = element("button", "", text);
  made.type = "button";
  made.setAttribute("aria-label", label);
  made.addEventListener("click", action);
  return made;
}

function fillDetail() {
  const row = shown[active];
  const head = element("div", "head");
  head.append(
    element("span", "place", `${(active + 1).toLocaleString("en")} of ${shown.length.toLocaleString("en")}`),
    button("←", "previous scan", () => step(-1)), button("→", "next scan", () => step(1)),
    button("Close", "close", () => detail.close()),
  );
  const name = element("h2");
  name.id = "detail-name";
  name.append(element("bdi", "", visible(row.scan)));
  const large = element("div", "large");
  const box = pictureBox(row);
  const facts = element("div");
  const list = element("dl");
  if (row.ok) {
    facts.append(probabilities(row));
    detailRow(list, "class", classText(row));
    detailRow(list, `prediction set at ${about.coverage}`, setText(row));
    if (row.shift !== null) detailRow(list, "shift score (spreads from the training scans)", String(row.shift));
  } else {
    detailRow(list, "quarantined", element("b", "", row.code));
    if (about.codes[row.code]) detailRow(list, "which means", about.codes[row.code]);
  }
  const map = row.ok ? pictureOf(row)?.[1] : undefined;
  if (map !== undefined) {
    const meaning = map ? about.map_means : "nothing in this scan speaks for";
    detailRow(list, `map: ${about.map}`, `${meaning} ${about.classes[row.shownClass]}`);
  }
  if (row.flags.length) detailRow(list, "flags", flagList(row));
  facts.append(list);
  const image = box.querySelector("img");
  // Voxels are shown as voxels where there are few of them.
  image?.addEventListener("load", () => box.classList.toggle("small", image.naturalHeight < 64));
  large.append(box, facts);
  detail.replaceChildren(head, name, large);
}

function openDetail() {
  if (!shown.length) return;
  fillDetail();
  detail.showModal();
  detail.focus();
}

function step(by) {
  const held = [...detail.querySelectorAll("button")].indexOf(document.activeElement);
  moveTo(active + by, false);
  fillDetail();
  (detail.querySelectorAll("button")[held] ?? detail).focus();
}

const DETAIL_STEPS = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 };
detail.tabIndex = -1;
detail.addEventListener("keydown", (event) => {
  if (!DETAIL_STEPS[event.key]) return;
  event.preventDefault();
  step(DETAIL_STEPS[event.key]);
});
detail.addEventListener("close", focusActive);
// A click beside the dialog closes it: the dialog itself is hit only where its content is not.
for (const dialog of [detail, byId("keys")]) {
  dialog.addEventListener("click", (event) => {
    const box = dialog.getBoundingClientRect();
    const inside = event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
    if (event.target === dialog && !inside) dialog.close();
  });
}

function toggleMap() {
  const off = document.body.classList.toggle("no-map");
  byId("map").setAttribute("aria-pressed", String(!off));
}
byId("map").hidden = !about.map;
if (about.map) byId("map").textContent = about.map;
byId("map").addEventListener("click", toggleMap);
byId("help").addEventListener("click", () => byId("keys").showModal());

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input, select, textarea");
  if (typing && event.key === "Escape" && event.target.id === "search") {
    focusActive();
    return;
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "o" && about.map) toggleMap();
  else if (document.querySelector("dialog[open]")) return;
  else if (event.key === "/") byId("search").focus();
  else if (event.key === "?") byId("keys").showModal();
  else return;
  event.preventDefault();
});

choose();
