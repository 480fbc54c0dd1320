"use strict";
// What the reader can do with the page: hide methods and domains, choose a phase, sort tables, and link to all of that.

(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const {draw, element, swatch, hideTip, moveTip} = Figures;
  const holders = [...document.querySelectorAll("[data-drawing]")];
  const drawings = new Map(data.drawings.map(drawing => [drawing.name, drawing]));
  const tables = [...document.querySelectorAll("figure.table")];
  const form = document.getElementById("selection");
  const side = document.getElementById("side");
  const main = document.getElementById("main");

  const PAPER = 700; // the width of the text on A4, in CSS pixels

  // The selection. It is in the address after the `#`, as `hide=QAM&domain=scene-play&phase=online&sort=...&at=...`.

  let selection = {methods: new Set(), domains: new Set(), phase: "", sorts: new Map(), at: ""};

  function read(fragment) {
    if (!fragment.includes("=")) return {...selection, at: fragment};
    const words = new URLSearchParams(fragment);
    const places = (key, names) => new Set(words.getAll(key).map(name => names.indexOf(name)).filter(k => k >= 0));
    const sorts = words.getAll("sort").map(text => text.split("."));
    return {
      methods: places("hide", data.methods.map(method => method.name)),
      domains: places("domain", data.domains),
      phase: data.phases.includes(words.get("phase")) ? words.get("phase") : "",
      sorts: new Map(sorts.filter(parts => parts.length === 3).map(([table, column, way]) => [table, {column: Number(column), way}])),
      at: words.get("at") ?? "",
    };
  }

  function written() {
    const words = new URLSearchParams();
    for (const m of [...selection.methods].sort((a, b) => a - b)) words.append("hide", data.methods[m].name);
    for (const d of [...selection.domains].sort((a, b) => a - b)) words.append("domain", data.domains[d]);
    if (selection.phase) words.set("phase", selection.phase);
    for (const [table, {column, way}] of selection.sorts) words.append("sort", `${table}.${column}.${way}`);
    if (selection.at) words.set("at", selection.at);
    return words.toString();
  }

  function change(changed) {
    selection = {...selection, ...changed};
    history.replaceState(null, "", `#${written()}`);
    show();
  }

  function toggled(set, value) {
    const result = new Set(set);
    if (!result.delete(value)) result.add(value);
    return result;
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

  function sortTable(figure) {
    const body = figure.querySelector("tbody");
    const headings = [...figure.querySelectorAll("th")];
    const sort = selection.sorts.get(figure.id);
    for (const [k, heading] of headings.entries()) {
      heading.setAttribute("aria-sort", sort?.column === k ? sort.way : "none");
    }
    const rows = [...body.rows].sort((a, b) => a.dataset.place - b.dataset.place);
    if (sort && headings[sort.column]) {
      const keys = new Map(keysOf(rows, sort.column).map((key, k) => [rows[k], key]));
      const sign = sort.way === "descending" ? -1 : 1;
      rows.sort((a, b) => compare(keys.get(a), keys.get(b), sign));
    }
    body.append(...rows);
  }

  /** A click sorts one way (numbers: the largest first), the next one the other way, the third as it was. */
  function nextSort(figure, column) {
    const areNumbers = keysOf([...figure.querySelector("tbody").rows], column).some(key => typeof key === "number");
    const ways = areNumbers ? ["descending", "ascending"] : ["ascending", "descending"];
    const current = selection.sorts.get(figure.id);
    const way = current?.column === column ? ways[ways.indexOf(current.way) + 1] : ways[0];
    const sorts = new Map(selection.sorts);
    sorts.delete(figure.id);
    if (way) sorts.set(figure.id, {column, way});
    change({sorts});
  }

  function prepareTable(figure) {
    for (const [place, row] of [...figure.querySelectorAll("tbody tr")].entries()) {
      row.dataset.place = place;
      if (data.methods[row.dataset.method]?.isOwn) row.classList.add("own");
    }
    for (const [column, heading] of [...figure.querySelectorAll("th")].entries()) {
      const button = element("button", {type: "button"}, ...heading.childNodes);
      button.addEventListener("click", () => nextSort(figure, column));
      heading.replaceChildren(button);
    }
  }

  const isHidden = ({method, domain}) =>
    (method !== undefined && selection.methods.has(Number(method))) || (domain !== undefined && selection.domains.has(Number(domain)));

  function showTable(figure) {
    figure.hidden = Boolean(selection.phase && figure.dataset.phase && figure.dataset.phase !== selection.phase);
    const columns = [...figure.querySelectorAll("th")].map(heading => isHidden(heading.dataset));
    for (const row of figure.querySelectorAll("tr")) {
      row.hidden = isHidden(row.dataset);
      for (const [k, cell] of [...row.cells].entries()) cell.hidden = columns[k];
    }
    sortTable(figure);
  }

  // The controls at the side

  function checkbox(name, value, label, ...before) {
    const input = element("input", {type: "checkbox", name, value});
    return element("label", {}, input, ...before, element("span", {}, label));
  }

  function radio(value, label) {
    return element("label", {}, element("input", {type: "radio", name: "phase", value}), element("span", {}, label));
  }

  function group(title, ...children) {
    return element("fieldset", {}, element("legend", {}, title), ...children);
  }

  function makeControls() {
    const methods = data.methods.map((method, m) => {
      const label = checkbox("method", m, method.title, swatch(m, method));
      if (method.isOwn) label.className = "own";
      return label;
    });
    const domains = data.domains.map((domain, d) => checkbox("domain", d, domain));
    const everything = element("button", {type: "button", class: "plain"}, "Show everything");
    const theme = element("button", {type: "button", class: "plain", id: "theme"}, "Dark or light");
    const link = element("a", {id: "permalink"}, "Link to this selection");
    everything.addEventListener("click", () => change({methods: new Set(), domains: new Set(), phase: ""}));
    theme.addEventListener("click", () => {
      const isDark = getComputedStyle(document.documentElement).colorScheme === "dark"
        || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
      document.documentElement.dataset.theme = isDark ? "light" : "dark";
    });
    const phases = data.phases.length > 1 ? [group("Phase", radio("", "all"), ...data.phases.map(name => radio(name, name)))] : [];
    form.append(
      element("div", {class: "tools"}, everything, theme, link),
      ...phases,
      group("Methods", ...methods),
      ...(data.domains.length > 1 ? [group("Domains", ...domains)] : []),
    );
    form.addEventListener("submit", event => event.preventDefault());
    form.addEventListener("change", ({target}) => {
      if (target.name === "phase") change({phase: target.value});
      if (target.name === "method") change({methods: toggled(selection.methods, Number(target.value))});
      if (target.name === "domain") change({domains: toggled(selection.domains, Number(target.value))});
    });
    form.hidden = false;
  }

  function showControls() {
    for (const input of form.querySelectorAll("input")) {
      if (input.name === "phase") input.checked = input.value === selection.phase;
      if (input.name === "method") input.checked = !selection.methods.has(Number(input.value));
      if (input.name === "domain") input.checked = !selection.domains.has(Number(input.value));
    }
    document.getElementById("permalink").href = `#${written()}`;
    const hidden = [...[...selection.methods].map(m => data.methods[m].title), ...[...selection.domains].map(d => data.domains[d])];
    const note = document.getElementById("hidden-note");
    const only = selection.phase ? `Only the ${selection.phase} phase is shown. ` : "";
    note.textContent = `${only}${hidden.length ? `Hidden: ${hidden.join(", ")}. ` : ""}Numbers, bold type and ranks stay those of the whole comparison.`;
    note.hidden = !only && !hidden.length;
  }

  // All together

  let drawOne;
  let waiting = [];

  function drawAll() {
    const has = set => place => !set.has(place);
    const view = {
      methods: data.methods,
      hasMethod: has(selection.methods),
      hasDomain: has(selection.domains),
      hasPhase: phase => !selection.phase || selection.phase === phase,
      shown: data.methods.map((method, m) => m).filter(m => !selection.methods.has(m)),
    };
    drawOne = (holder, width = holder.clientWidth) => draw(holder, drawings.get(holder.dataset.drawing), view, width);
    const isVisible = ({top, bottom}) => bottom > 0 && top < innerHeight;
    const [now, later] = [[], []];
    for (const holder of holders) (isVisible(holder.getBoundingClientRect()) ? now : later).push(holder);
    now.forEach(holder => drawOne(holder));
    waiting = later;
    drawNext();
  }

  /** Draw the figures out of sight one by one, so that the page answers at once. */
  function drawNext() {
    main.setAttribute("aria-busy", waiting.length > 0);
    if (!waiting.length) return;
    setTimeout(() => {
      if (waiting.length) drawOne(waiting.shift());
      drawNext();
    });
  }

  function drawRest() {
    while (waiting.length) drawOne(waiting.shift());
  }

  function show() {
    hideTip();
    tables.forEach(showTable);
    showControls();
    const focused = document.activeElement?.dataset.toggle; // a legend is made again with its figure
    const holder = document.activeElement?.closest("[data-drawing]");
    drawAll();
    if (focused) holder.querySelector(`[data-toggle="${focused}"]`).focus();
  }

  function goTo(id) {
    const found = id && document.getElementById(id);
    if (found) found.scrollIntoView();
    return Boolean(found);
  }

  function follow() {
    selection = read(location.hash.slice(1));
    show();
    drawRest(); // else the place to go to would move
    goTo(selection.at);
  }

  // What can be taken away: the files of a table, and a figure as it is drawn

  function offer(place, label, take) {
    const button = element("button", {type: "button"}, label);
    button.addEventListener("click", async () => {
      const said = await take();
      button.textContent = said;
      setTimeout(() => { button.textContent = label; }, 1500);
    });
    place.append(button);
    place.hidden = false;
  }

  async function copy(text) {
    if (navigator.clipboard && isSecureContext) {
      try {
        await navigator.clipboard.writeText(text);
        return "copied";
      } catch { /* not allowed here: the old way may be */ }
    }
    const area = element("textarea", {readonly: "", style: "position: fixed; top: 0; opacity: 0"}, text);
    document.body.append(area);
    area.select();
    const isDone = document.execCommand("copy");
    area.remove();
    return isDone ? "copied" : "not allowed here";
  }

  /** The panels of a figure as one SVG on light paper, with plain colours. */
  function svgOf(holder) {
    const {theme} = document.documentElement.dataset;
    document.documentElement.dataset.theme = "light";
    const brush = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const plain = colour => {
      brush.clearRect(0, 0, 1, 1);
      brush.fillStyle = colour;
      brush.fillRect(0, 0, 1, 1);
      return `#${[...brush.getImageData(0, 0, 1, 1).data].slice(0, 3).map(part => part.toString(16).padStart(2, "0")).join("")}`;
    };
    const origin = holder.getBoundingClientRect();
    const whole = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const size = {width: Math.ceil(origin.width), height: Math.ceil(origin.height), "font-family": "sans-serif", "font-size": 11};
    for (const [key, value] of Object.entries(size)) whole.setAttribute(key, value);
    for (const svg of holder.querySelectorAll(".panels svg")) {
      const made = svg.cloneNode(true);
      const [drawn, copies] = [svg, made].map(each => [each, ...each.querySelectorAll("*")]);
      drawn.forEach((each, k) => {
        for (const name of ["fill", "stroke"]) {
          const value = getComputedStyle(each)[name];
          if (each.hasAttribute(name) && value !== "none" && !value.startsWith("url")) copies[k].setAttribute(name, plain(value));
        }
      });
      const box = svg.getBoundingClientRect();
      made.removeAttribute("style");
      made.setAttribute("color", "#1b1d21");
      made.setAttribute("x", box.left - origin.left);
      made.setAttribute("y", box.top - origin.top);
      const title = svg.parentNode.querySelector(".panel-title");
      if (title) {
        const text = document.createElementNS("http://www.w3.org/2000/svg", "text");
        const about = {x: box.left - origin.left, y: box.top - origin.top - 4, "font-weight": 600, "font-size": 12};
        for (const [key, value] of Object.entries(about)) text.setAttribute(key, value);
        text.textContent = title.textContent;
        whole.append(text);
      }
      whole.append(made);
    }
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
    return new XMLSerializer().serializeToString(whole);
  }

  function save(name, text) {
    const link = element("a", {download: name, href: URL.createObjectURL(new Blob([text], {type: "image/svg+xml"}))});
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    return "saved";
  }

  for (const place of document.querySelectorAll("[data-copy]")) {
    for (const [kind, text] of Object.entries(data.files[place.dataset.copy])) offer(place, `copy ${kind}`, () => copy(text));
  }
  for (const place of document.querySelectorAll("[data-save]")) {
    const holder = place.closest("figure").querySelector("[data-drawing]");
    offer(place, "copy SVG", () => copy(svgOf(holder)));
    offer(place, "save SVG", () => save(`${place.dataset.save}.svg`, svgOf(holder)));
  }

  tables.forEach(prepareTable);
  makeControls();
  document.addEventListener("click", event => {
    const button = event.target.closest("[data-toggle]");
    if (button) change({methods: toggled(selection.methods, Number(button.dataset.toggle))});
    const link = event.target.closest("nav a, .skip");
    if (link) {
      event.preventDefault(); // the address keeps the selection
      change({at: link.hash.slice(1)});
      if (goTo(selection.at)) document.getElementById(selection.at).focus({preventScroll: true});
      if (!isWide.matches) side.open = false;
    }
  });
  const isWide = matchMedia("(min-width: 1000px)");
  const fold = () => { side.open = isWide.matches; };
  isWide.addEventListener("change", fold);
  fold();
  addEventListener("hashchange", follow);
  addEventListener("scroll", moveTip, {passive: true});
  addEventListener("beforeprint", () => {
    waiting = [];
    holders.forEach(holder => drawOne(holder, PAPER));
    for (const button of document.querySelectorAll("th button")) button.after(element("span", {class: "printed"}, button.textContent));
  });
  addEventListener("afterprint", () => {
    for (const text of document.querySelectorAll(".printed")) text.remove();
    drawAll();
  });
  let width = main.clientWidth;
  addEventListener("resize", () => {
    const before = width;
    width = main.clientWidth;
    if (width !== before) drawAll();
  });
  follow();
})();
