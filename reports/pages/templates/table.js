"use strict";
// Sorting and filtering for the table of edits; without this script it is simply a table.
for (const table of document.querySelectorAll(".rome-diagnosis table.riskiest")) {
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  const value = (row, i) => row.cells[i].dataset.v ?? row.cells[i].textContent.trim();
  heads.forEach((head, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const numeric = head.classList.contains("n");
      const keys = new Map(rows.map((row) => [row, value(row, i)]));
      rows.sort((a, b) => {
        const [x, y] = [keys.get(a), keys.get(b)];
        // What was not measured stays at the end either way.
        if (numeric && (x === "" || y === "")) return (x === "") - (y === "");
        const order = numeric ? x - y : x < y ? -1 : x > y ? 1 : 0;
        return down ? -order : order;
      });
      body.append(...rows);
    });
  });

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
