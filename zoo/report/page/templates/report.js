"use strict";
// What the reader can do with the page: sort its tables, copy tables and figures, and change between dark and light.

(() => {
  const files = JSON.parse(document.getElementById("files").textContent);

  /** A thing that looks like text and acts like a button; unlike one, it is printed again on each page of a table. */
  function button(label, act) {
    const made = document.createElement("span");
    made.textContent = label;
    made.tabIndex = 0;
    made.setAttribute("role", "button");
    made.addEventListener("click", act);
    made.addEventListener("keydown", event => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      act();
    });
    return made;
  }

  // Tables

  const NUMBER = /^(< |more than )?([-−+]?(?:\d[\d,]*)?\.?\d+(?:e[-+]?\d+)?)(?![\w.])/i;
  const BEYOND = {"< ": 0.5, "more than ": 2};

  /** The number that an entry begins with, or null. */
  function numberOf(text) {
    const found = NUMBER.exec(text);
    return found && Number(found[2].replaceAll(",", "").replace("−", "-")) * (BEYOND[found[1]] ?? 1);
  }

  const textOf = cell => (cell.querySelector("b") ?? cell.firstChild ?? cell).textContent.trim();

  /** What to sort rows by: numbers if most entries of a column are, else texts; null where there is nothing to compare. */
  function keysOf(rows, column) {
    const texts = rows.map(row => textOf(row.cells[column])).map(text => (text === "-" || text === "" ? null : text));
    const numbers = texts.map(text => (text === null ? null : numberOf(text)));
    const count = values => values.filter(value => value !== null).length;
    return 2 * count(numbers) > count(texts) ? numbers : texts;
  }

  function compare(a, b, sign) {
    if (a === null || b === null) return (a === null) - (b === null); // last in both directions
    return sign * (typeof a === "number" ? a - b : a.localeCompare(b, "en", {numeric: true}));
  }

  /** Sort by a column: numbers the largest first, texts from A on; the second time the other way, the third as it was. */
  function sort(body, headings, column, first) {
    const keys = keysOf(first, column);
    const ways = keys.some(key => typeof key === "number") ? ["descending", "ascending"] : ["ascending", "descending"];
    const next = {none: ways[0], [ways[0]]: ways[1], [ways[1]]: "none"}[headings[column].ariaSort];
    const order = first.map((row, k) => k);
    if (next !== "none") order.sort((a, b) => compare(keys[a], keys[b], next === "descending" ? -1 : 1));
    for (const heading of headings) heading.ariaSort = "none";
    headings[column].ariaSort = next;
    body.append(...order.map(k => first[k]));
  }

  for (const table of document.querySelectorAll("figure.table table")) {
    const [body, headings] = [table.tBodies[0], [...table.tHead.rows[0].cells]];
    const first = [...body.rows];
    headings.forEach((heading, column) => {
      heading.ariaSort = "none";
      heading.replaceChildren(button(heading.textContent, () => sort(body, headings, column, first)));
    });
  }

  // What can be taken away: the files of a table, and a figure

  async function copy(text) {
    if (navigator.clipboard && isSecureContext) {
      try {
        await navigator.clipboard.writeText(text);
        return "copied";
      } catch { /* not allowed here: the old way may be */ }
    }
    const area = document.createElement("textarea");
    area.value = text;
    area.style.cssText = "position: fixed; top: 0; opacity: 0";
    document.body.append(area);
    area.select();
    const isDone = document.execCommand("copy");
    area.remove();
    return isDone ? "copied" : "not allowed here";
  }

  function offer(place, label, text) {
    const made = button(label, async () => {
      made.textContent = await copy(text());
      setTimeout(() => { made.textContent = label; }, 1500);
    });
    place.append(made);
  }

  for (const place of document.querySelectorAll("[data-files]")) {
    for (const [kind, text] of Object.entries(files[place.dataset.files])) offer(place, `copy ${kind}`, () => text);
  }
  for (const place of document.querySelectorAll("[data-figure]")) {
    offer(place, "copy SVG", () => place.parentNode.querySelector("svg").outerHTML);
  }

  // Paper has everything; what is folded on a screen is opened for it
  addEventListener("beforeprint", () => {
    for (const fold of document.querySelectorAll(".fold")) fold.open = true;
  });

  // Looks

  const page = document.documentElement;
  document.getElementById("theme").append(button("Dark or light", () => {
    const theme = page.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    page.dataset.theme = theme === "dark" ? "light" : "dark";
  }));
  document.getElementById("side").open = matchMedia("(min-width: 1000px)").matches;
})();
