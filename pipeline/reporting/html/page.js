// What all pages do without figures: open the folded section of a link, sort and filter tables, copy commands.
"use strict";
const $ = (id) => document.getElementById(id);
const make = (tag, properties, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

// ---- folded sections ----

function unfold(hash) {
  const target = hash.length > 1 ? $(decodeURIComponent(hash.slice(1))) : null;
  for (let fold = target?.closest("details"); fold; fold = fold.parentElement.closest("details")) {
    fold.open = true;
  }
  return target;
}

document.addEventListener("click", ({target}) => {
  const link = target.closest('a[href^="#"]');
  if (link) unfold(link.hash);
});
addEventListener("load", () => unfold(location.hash)?.scrollIntoView());

// ---- tables: sorted by sortable-tablesort, ten rows and then the rest on demand ----

const TEN = 10;
let panel = "|"; // 'benchmark|setting|cost|' of the plot, which the rows of some tables follow
const inPanel = (row) => !row.dataset.panel || panel.startsWith(`${row.dataset.panel}|`);

function sortKey(text) {
  // "at most 1.00 [≤ 1.00, 1.20]" sorts as 1, "−0.003 [−0.010, 0.004]" as -0.003, and e5-small-l2 before e5-small-l12.
  if (text === "–") return "";
  if (text.startsWith("not reached")) return "Infinity";
  const number = /^(?:at most |p [=<] |[<>≤] )*([+−-]?[\d,]*\.?\d+)(?=$|[ ;%])/.exec(text);
  if (number) return number[1].replaceAll(",", "").replace("−", "-");
  return text.replace(/\d+/g, (digits) => digits.padStart(6, "0"));
}

document.addEventListener("sort-start", ({target: table}) => {
  const column = table.tHead.querySelector("[aria-sort]").cellIndex;
  for (const {cells} of table.tBodies[0].rows) cells[column].dataset.sort ??= sortKey(cells[column].textContent);
});
document.addEventListener("sort-end", ({target}) => showRows(target.closest(".block")));

function equip(block) {
  const table = block.querySelector("table");
  table.classList.add("sortable", "n-last");
  table.querySelectorAll("thead th").forEach((th) => th.append(make("button", {type: "button"}, ...th.childNodes)));
  if (table.tBodies[0].rows.length <= TEN) return;
  const filter = make("input", {type: "search", placeholder: "Filter rows", ariaLabel: `Filter: ${block.querySelector("h3").textContent}`});
  filter.addEventListener("input", () => showRows(block));
  const more = make("button", {type: "button", ariaExpanded: "false"});
  more.addEventListener("click", () => {
    more.ariaExpanded = String(more.ariaExpanded === "false");
    showRows(block);
  });
  block.querySelector("h3").after(filter);
  block.append(more);
}

const rowsOf = new WeakMap(); // table -> all its rows; the document holds those of the panel only, or 1,000 systems are slow

function follow(block, table) {
  // Put the rows of the panel into the table.
  if (!rowsOf.has(table)) rowsOf.set(table, [...table.tBodies[0].rows]);
  const rows = rowsOf.get(table);
  if (block.dataset.panel === panel || !rows.some((row) => row.dataset.panel)) return;
  block.dataset.panel = panel;
  table.tBodies[0].replaceChildren(...rows.filter(inPanel));
  table.querySelector("[aria-sort]")?.removeAttribute("aria-sort");
}

function showRows(block) {
  const table = block.querySelector("table");
  if (!table.classList.contains("sortable")) equip(block);
  follow(block, table);
  const filter = block.querySelector("input"), more = block.querySelector(":scope > button");
  const words = (filter?.value ?? "").toLowerCase().split(" ");
  const rows = [...table.tBodies[0].rows];
  const fits = (row) => !filter?.value || words.every((word) => row.textContent.toLowerCase().includes(word));
  const fitting = rows.filter(fits);
  const shown = new Set(fitting.slice(0, more?.ariaExpanded === "true" ? Infinity : TEN));
  rows.forEach((row) => (row.hidden = !shown.has(row)));
  block.hidden = rows.length === 0;
  if (!more) return;
  filter.hidden = rows.length <= TEN;
  more.hidden = fitting.length <= TEN;
  more.textContent = more.ariaExpanded === "true" ? "Show ten rows" : `Show all ${fitting.length} rows`;
}

// Also in folded sections, before they open: then a browser lays out ten rows and not thousands.
const showTables = () => document.querySelectorAll(".block").forEach(showRows);

// ---- commands ----

document.querySelectorAll(".command").forEach((command) => {
  const button = make("button", {type: "button"}, "Copy");
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(command.querySelector("code").textContent);
    button.textContent = "Copied";
  });
  command.append(button);
});
