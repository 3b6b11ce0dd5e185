"use strict";
// Sorting, filtering and copying; without this script the page is read as it is.
const page = document.querySelector(".rome-diagnosis");
const button = (...content) => {
  const made = Object.assign(document.createElement("button"), { type: "button" });
  made.append(...content);
  return made;
};
const value = (row, i) => row.cells[i].dataset.v ?? row.cells[i].textContent.trim();
// Numbers as a page writes them: a true minus sign, commas, units after them.
const figure = (text) => parseFloat(text.replaceAll("−", "-").replaceAll(",", ""));
const unknown = (text) => text === "" || text === "–";

for (const table of page.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.lastElementChild.cells];
  if (rows.length < 2) continue;
  heads.forEach((head, i) => {
    const sort = button(...head.childNodes);
    head.append(sort);
    sort.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const keys = new Map(rows.map((row) => [row, value(row, i)]));
      const numeric = [...keys.values()].every((key) => unknown(key) || !isNaN(figure(key)));
      rows.sort((a, b) => {
        const [x, y] = [keys.get(a), keys.get(b)];
        // What was not measured stays at the end either way.
        if (unknown(x) || unknown(y)) return unknown(x) - unknown(y);
        const order = numeric ? figure(x) - figure(y) : x.localeCompare(y);
        return down ? -order : order;
      });
      body.append(...rows);
    });
  });
}

for (const table of page.querySelectorAll("table.riskiest")) {
  const rows = [...table.tBodies[0].rows], heads = [...table.tHead.rows[0].cells];
  const controls = document.createElement("div"), status = document.createElement("p");
  controls.className = "controls";
  status.setAttribute("role", "status");
  const add = (name, control, type) => {
    const label = document.createElement("label");
    if (type) label.className = type;
    label.append(...(type ? [control, name] : [name, control]));
    controls.append(label);
    control.addEventListener("input", filter);
    return control;
  };
  // What a column holds says its head: texts to search, the label to choose, a token's index.
  const those = (what) => heads.flatMap((head, i) => (head.dataset.is === what ? [i] : []));
  const [label] = those("label"), [index] = those("index");
  const text = add("Search", Object.assign(document.createElement("input"), { type: "search" }));
  const verdict = add(heads[label].textContent, document.createElement("select"));
  for (const name of ["all", ...new Set(rows.map((row) => value(row, label)))])
    verdict.append(new Option(name));
  const first = index !== undefined && add("first token only",
    Object.assign(document.createElement("input"), { type: "checkbox" }), "check");
  const texts = new Map(rows.map((row) => [row,
    those("text").map((i) => (row.cells[i].querySelector("summary") ?? row.cells[i]).textContent)
      .join(" ").toLowerCase()]));
  function filter() {
    const wanted = text.value.toLowerCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden = !(texts.get(row).includes(wanted)
        && (verdict.value === "all" || value(row, label) === verdict.value)
        && (!first || !first.checked || value(row, index) === "0"));
      shown += !row.hidden;
    }
    status.textContent = `${shown} of ${rows.length} shown`;
  }
  table.parentElement.before(controls, status);
  filter();
}

const copying = (what, read) => {
  const copy = button(what);
  copy.className = "copy";
  copy.addEventListener("click", async () => {
    copy.textContent = await navigator.clipboard.writeText(read()).then(() => "Copied", () => "Refused");
    setTimeout(() => { copy.textContent = what; }, 1500);
  });
  return copy;
};
const decoded = (link) => new TextDecoder().decode(
  Uint8Array.from(atob(link.href.split(",")[1]), (character) => character.charCodeAt(0)));
// Browsers offer the clipboard to pages from a file or over HTTPS alone.
if (navigator.clipboard) {
  for (const code of page.querySelectorAll("pre code"))
    code.before(copying("Copy", () => code.textContent));
  for (const link of page.querySelectorAll(".downloads a:is([download$='.csv'], [download$='.tex'])"))
    link.parentElement.append(copying(`Copy ${link.textContent}`, () => decoded(link)));
}
