// Sorts, filters and hides what the page already holds. Reads nothing else and writes no markup: only text.
(() => {
  const byId = (id) => document.getElementById(id);
  const board = byId("board"), body = board.tBodies[0];
  const heads = [...board.querySelectorAll(".heads th")], filters = board.querySelector(".filters");
  const rows = [...body.rows].map((tr, place) => {
    const model = tr.cells[1].firstChild.textContent.toLowerCase();
    return { tr, place, model, shortcut: "shortcut" in tr.dataset, contaminated: "contaminated" in tr.dataset };
  });
  const value = (row, n) => {
    const text = row.tr.cells[n].dataset.v;
    return text === undefined ? null : Number(text);
  };

  // Empty cells stay last in both directions; equal ones keep the order of the board.
  const sort = (n, ascending) => {
    const sign = ascending ? 1 : -1;
    const keyed = rows.map((row) => [n === 1 ? row.model : value(row, n), row]);
    keyed.sort(([a, r], [b, s]) => {
      if (a === null || b === null) return (a === null) - (b === null) || r.place - s.place;
      return (a < b ? -sign : a > b ? sign : 0) || r.place - s.place;
    });
    heads.forEach((th, i) => th.setAttribute("aria-sort", i === n ? (ascending ? "ascending" : "descending") : "none"));
    body.append(...keyed.map(([, row]) => row.tr));
  };
  heads.forEach((th, n) => th.querySelector("button").addEventListener("click", () => {
    const now = th.getAttribute("aria-sort");
    const first = n === 1 || "down" in th.dataset; // the best first: the least where less is better
    sort(n, now === "none" ? first : now === "descending");
  }));

  // ">0.5", "<= 0.1", or a number alone: at least that, or at most where less is better.
  const condition = (input, n) => {
    const text = input.value.trim();
    const found = /^(<=?|>=?|=|≤|≥)?\s*(-?(?:\d+\.?\d*|\.\d+)(?:e-?\d+)?)$/i.exec(text);
    input.setAttribute("aria-invalid", String(text !== "" && !found));
    if (!found) return null;
    const sign = found[1] ?? ("down" in heads[n].dataset ? "<=" : ">="), bound = Number(found[2]);
    const test = {
      "<": (v) => v < bound, "<=": (v) => v <= bound, "≤": (v) => v <= bound, "=": (v) => v === bound,
      ">": (v) => v > bound, ">=": (v) => v >= bound, "≥": (v) => v >= bound,
    }[sign];
    return (row) => { const v = value(row, n); return v !== null && test(v); };
  };
  const show = () => {
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const tests = [...filters.cells].flatMap((cell, n) => {
      const input = cell.querySelector("input"), test = input && condition(input, n);
      return test ? [test] : [];
    });
    let shown = 0;
    for (const row of rows) {
      const hidden = !(words.every((word) => row.model.includes(word))
        && (!row.shortcut || byId("shortcuts").checked)
        && (!row.contaminated || byId("contaminated").checked)
        && tests.every((test) => test(row)));
      if (row.tr.hidden !== hidden) row.tr.hidden = hidden;
      shown += !hidden;
    }
    byId("shown").textContent = shown === rows.length ? `${shown} models` : `${shown} of ${rows.length} models`;
    byId("nothing").hidden = shown > 0 || rows.length === 0;
  };
  const columns = () => {
    const off = new Set([...document.querySelectorAll("[data-group]:not(:checked)")].map((box) => box.dataset.group));
    for (const cell of board.tHead.querySelectorAll("[data-g]")) cell.hidden = off.has(cell.dataset.g);
    const hide = heads.map((th) => th.hidden);
    for (const { tr } of rows) for (let n = 3; n < hide.length; n++) tr.cells[n].hidden = hide[n];
  };
  const openFilters = (open) => {
    filters.hidden = !open;
    byId("filter").setAttribute("aria-expanded", String(open));
  };
  const reset = () => {
    byId("controls").reset();
    for (const input of filters.querySelectorAll("input")) input.value = "";
    openFilters(false);
    heads.forEach((th) => th.setAttribute("aria-sort", "none"));
    body.append(...rows.map((row) => row.tr));
    columns();
    show();
  };

  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("controls").addEventListener("input", (event) => ("group" in event.target.dataset ? columns() : show()));
  filters.addEventListener("input", show);
  byId("filter").addEventListener("click", () => openFilters(filters.hidden));
  byId("restore").addEventListener("click", reset);
  byId("nothing").querySelector("button").addEventListener("click", reset);
  // Browsers that do not open what a link leads into.
  addEventListener("hashchange", () => {
    const details = byId(location.hash.slice(1))?.closest("details");
    if (details) details.open = true;
  });
  byId("controls").hidden = false;
  show();
})();
