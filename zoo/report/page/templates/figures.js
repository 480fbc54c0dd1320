"use strict";
// Draws the figures with Observable Plot. Colours are CSS variables (`--method-3`, `--ink`), so that neither dark mode
// nor print needs another drawing. What the data are, `zoo/report/figures/drawings.py` says.

const Figures = (() => {
  const FONT = {fontSize: 11, fill: "var(--ink)"};
  const GRID = {stroke: "var(--rule)", strokeOpacity: 1};
  const LETTER = 6.4; // about the width of a letter, in pixels
  const SMALLEST_CELL = 14; // a grid with narrower ones scrolls instead
  const colour = m => `var(--method-${m})`;
  /** The colour of a method in a panel: its own where the panel names it and the report is about it. */
  const paint = (panel, view, m) => (panel.named.includes(m) && !view.methods[m].isMuted ? colour(m) : "var(--muted)");

  // Numbers and texts

  const written = (value, digits) => {
    const text = value.toLocaleString("en", {minimumFractionDigits: digits, maximumFractionDigits: digits});
    return Number(text.replaceAll(",", "")) === 0 ? text.replace("-", "") : text.replace("-", "−");
  };
  const interval = (found, digits) =>
    found ? ` [${found.map(bound => written(bound, digits)).join(", ")}]` : " (no interval)";
  const onCurve = (d, digits) => written(d.value, digits) + interval(d.interval, digits);
  const plural = seeds => (seeds === "" ? "" : `${seeds} ${/^1($|,)/.test(seeds) ? "seed" : "seeds"}`);
  const inSteps = step => (step == null ? "scored at different steps" : `${step.toLocaleString("en")} steps`);
  const short = value => value >= 1e6 ? `${+(value / 1e6).toFixed(2)}M` : value >= 1e3 ? `${+(value / 1e3).toFixed(1)}k` : `${value}`;
  /** A text in so many letters; the last `kept` ones stay. */
  const cut = (text, letters, kept = 0) =>
    text.length > letters ? `${text.slice(0, letters - 1 - kept)}…${text.slice(text.length - kept)}` : text;

  // Parts of drawings

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  /** Panels in as few rows as fit; the first of a row has room for labels at its side. */
  function arrange(panels, width, least, side) {
    const most = Math.max(1, Math.floor((width - side) / least));
    const columns = Math.ceil(panels.length / Math.ceil(panels.length / most));
    const inner = (width - side) / columns - 1;
    return panels.map((panel, k) => {
      const isFirst = k % columns === 0;
      return {panel, isFirst, left: isFirst ? side : 8, width: inner + (isFirst ? side : 0)};
    });
  }

  const dashes = (method, width) => method.dash.map(part => part * width).join(" ") || null;
  const strokeWidth = (method, isNamed = true) => (!isNamed ? 0.7 : method.isOwn ? 2.4 : 1.5);

  /** A plot whose marks tell what they are: to the mouse, to a finger, and to the arrow keys. */
  function plot(options, points, describe, label) {
    const svg = Plot.plot({...options, style: {background: "none", color: "var(--ink)"}});
    const centre = (name, value) => svg.scale(name).apply(value) + (svg.scale(name).bandwidth ?? 0) / 2;
    const place = d => {
      const box = svg.getBoundingClientRect();
      const scale = box.width / options.width;
      return [box.left + scale * centre("x", d.at[0]), box.top + scale * centre("y", d.at[1])];
    };
    svg.setAttribute("tabindex", "0");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `${label}; arrow keys read its ${points.length} values`);
    svg.addEventListener("input", () => (svg.value ? showTip(describe(svg.value), () => place(svg.value)) : hideTip()));
    let current = -1;
    svg.addEventListener("keydown", event => {
      const way = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
      if (event.key === "Escape") leave();
      if (!way || !points.length) return;
      event.preventDefault();
      current = (current + way + points.length) % points.length;
      const [clientX, clientY] = place(points[current]);
      svg.dispatchEvent(new PointerEvent("pointermove", {clientX, clientY, pointerType: "mouse", bubbles: true}));
      showTip(describe(points[current]), () => place(points[current])); // where points lie upon each other, it is this one
    });
    const leave = () => svg.dispatchEvent(new PointerEvent("pointerleave", {pointerType: "mouse"}));
    svg.addEventListener("blur", leave);
    return svg;
  }

  let placeOfTip; // a function, since the place moves when the page is scrolled

  /** Show lines of text beside a place in the window: a heading, the value, and what it is about. */
  function showTip([title, value, ...about], place) {
    const tip = document.getElementById("tip");
    const lines = about.filter(Boolean).map(text => element("div", {}, text));
    tip.replaceChildren(element("b", {}, title), element("div", {class: "value"}, value), ...lines);
    tip.hidden = false;
    placeOfTip = place;
    moveTip();
  }

  function moveTip() {
    const tip = document.getElementById("tip");
    if (tip.hidden) return;
    const [x, y] = placeOfTip();
    const box = tip.getBoundingClientRect();
    const left = x + 14 + box.width < innerWidth ? x + 14 : Math.max(4, x - 14 - box.width);
    tip.style.left = `${left}px`;
    tip.style.top = `${Math.max(4, Math.min(y - box.height / 2, innerHeight - box.height - 4))}px`;
  }

  function hideTip() {
    document.getElementById("tip").hidden = true;
  }

  function titled(title, svg, width) {
    return element("div", {style: `width: ${width}px`}, element("p", {class: "panel-title"}, title), svg);
  }

  /** The names of methods left of their rows; own ones are bold. `place` returns where a method's row is. */
  function rowLabels(methods, view, side, place = m => m) {
    const letters = Math.floor(side / LETTER) - 1; // the rest is in the tip
    const texts = isOwn => Plot.text(methods.filter(m => view.methods[m].isOwn === isOwn), {
      ...FONT, y: place, text: m => cut(view.methods[m].title, letters), frameAnchor: "left", textAnchor: "end", dx: -6,
      fontWeight: isOwn ? 600 : 400,
    });
    return [texts(false), texts(true)];
  }

  const sideFor = (methods, view, width) => {
    const longest = Math.max(0, ...methods.map(m => view.methods[m].title.length));
    return Math.round(Math.min(longest * LETTER + 16, width * 0.4));
  };

  // Kinds of figures: each returns panels of the width

  /** The methods of a panel that are shown, in the order of its phase. */
  const ordered = (methods, view) => methods.filter(m => view.hasMethod(m));

  function intervals(drawing, view, width) {
    const panels = drawing.panels.filter(panel => view.hasPhase(panel.phase));
    const side = sideFor(view.shown, view, width);
    const isVerdict = panels.some(panel => panel.rows.some(row => row.word));
    const phases = [...new Set(panels.map(panel => panel.phase))].map(phase => panels.filter(panel => panel.phase === phase));
    const each = isVerdict ? Math.floor(width / Math.min(phases.length, Math.max(1, Math.floor(width / 400)))) - 1 : width;
    return phases.flatMap(group => intervalsOfPhase(group, view, each, side));
  }

  const WORDS = {better: "var(--better)", worse: "var(--worse)"};

  function intervalsOfPhase(panels, view, width, side) {
    const methods = ordered([...new Set(panels.flatMap(panel => panel.rows.map(row => row.m)))], view);
    return arrange(panels, width, 190, side).map(({panel, isFirst, left, width}) => {
      const [low, high] = panel.limits;
      const rows = panel.rows.filter(row => methods.includes(row.m))
        .map(row => ({...row, at: [Math.max(low, Math.min(high, row.value)), row.m]}));
      const inside = rows.filter(row => row.value >= low && row.value <= high);
      const outside = rows.filter(row => !inside.includes(row));
      const fill = d => (d.word ? WORDS[d.word] ?? "var(--quiet)" : paint(panel, view, d.m));
      const isWord = rows.some(row => row.word);
      const options = {
        width, height: 19 * methods.length + (panel.note ? 62 : 48), marginLeft: left, marginRight: isWord ? 72 : 14, marginTop: 6, marginBottom: panel.note ? 54 : 40,
        x: {domain: panel.limits, label: null}, y: {type: "band", domain: methods, padding: 0, axis: null},
        color: {type: "identity"},
        marks: [
          panel.margin ? Plot.rect([0], {x1: -panel.margin, x2: panel.margin, fill: "var(--band)"}) : null,
          Plot.gridX({...GRID, ticks: 5}),
          Plot.axisX({label: panel.note ? `${panel.label}\n${panel.note}` : panel.label, labelAnchor: "center", labelArrow: "none", labelOffset: panel.note ? 44 : 36, ticks: 5, tickSize: 0, ...FONT}),
          isFirst ? rowLabels(methods, view, side) : null,
          panel.zero === null ? null : Plot.ruleX([panel.zero], {stroke: "var(--ink)", strokeDasharray: "2 3"}),
          Plot.ruleY(inside.filter(row => row.interval), {x1: d => d.interval[0], x2: d => d.interval[1], y: "m", stroke: fill, strokeWidth: 2}),
          Plot.dot(inside, {x: "value", y: "m", r: d => (view.methods[d.m].isOwn ? 4.5 : 3.5), fill, stroke: d => (view.methods[d.m].isOwn ? "var(--ink)" : "none")}),
          Plot.text(outside, {x: d => d.at[0], y: "m", text: d => (d.value < low ? `◂ ${written(d.value, panel.digits)}` : ""), textAnchor: "start", fontSize: 11, fill}),
          Plot.text(outside, {x: d => d.at[0], y: "m", text: d => (d.value > high ? `${written(d.value, panel.digits)} ▸` : ""), textAnchor: "end", fontSize: 11, fill}),
          isWord ? Plot.text(rows, {y: "m", text: "word", frameAnchor: "right", textAnchor: "start", dx: 6, fontSize: 11, fill}) : null,
          Plot.dot(rows, Plot.pointerY({x: d => d.at[0], y: "m", r: 6, stroke: "var(--ink)", strokeWidth: 1.5, maxRadius: 30})),
        ],
      };
      const describe = d => [
        view.methods[d.m].title, `${panel.label}: ${d.text}`,
        `${panel.title}${panel.note ? `, ${panel.note}` : ""}`, d.word, plural(d.seeds), inSteps(d.step),
      ];
      return titled(panel.title, plot(options, rows, describe, `${panel.title}, ${panel.label}`), width);
    });
  }

  /** What a place on the axis of curves is called. */
  const WHERE = {
    steps: x => `step ${x.toLocaleString("en")}`,
    tau: (x, digits) => `τ = ${written(x, digits)}`,
  };

  function curves(drawing, view, width) {
    const panels = drawing.panels.filter(panel =>
      (panel.phase === undefined || view.hasPhase(panel.phase)) && (panel.domain == null || view.hasDomain(panel.domain)));
    const most = panels.length > 4 ? 210 : 300;
    return arrange(panels, width - 4, most, 0).map(({panel, width}) => {
      const isNamed = m => panel.named.includes(m);
      const rank = line => (isNamed(line.m) ? 1 : 0) + (view.methods[line.m].isMuted ? 0 : 1);
      const lines = panel.lines.filter(line => view.hasMethod(line.m) && view.hasPhase(line.phase))
        .sort((a, b) => rank(a) - rank(b)); // what the report is about lies on top
      const points = lines.flatMap(line => line.x.map((x, k) => ({
        x, value: line.y[k], m: line.m, line, at: [x, line.y[k]], interval: line.low ? [line.low[k], line.high[k]] : null,
      })).slice(line.isJoined ? 1 : 0));
      const isProfile = panel.x.kind === "tau";
      const first = Math.min(...panel.lines.filter(line => view.hasPhase(line.phase)).map(line => line.x[0]));
      const isPart = panel.x.kind === "steps" && panel.border !== null && Number.isFinite(first) && first >= panel.border; // online alone
      const limits = isPart ? [first, panel.x.limits[1]] : panel.x.limits;
      const marks = lines.flatMap(line => {
        const method = view.methods[line.m];
        const data = line.x.map((x, k) => ({x, y: line.y[k], low: line.low?.[k], high: line.high?.[k]}));
        const stroke = {stroke: paint(panel, view, line.m), strokeWidth: strokeWidth(method, isNamed(line.m))};
        const isSingle = data.length === 1;
        return [
          line.low && !isSingle && isNamed(line.m) ? Plot.areaY(data, {x: "x", y1: "low", y2: "high", fill: stroke.stroke, fillOpacity: method.isMuted ? 0.06 : 0.16}) : null,
          line.low && isSingle ? Plot.ruleX(data, {x: "x", y1: "low", y2: "high", ...stroke, strokeOpacity: 0.5}) : null,
          Plot.lineY(data, {x: "x", y: "y", ...stroke, strokeDasharray: isNamed(line.m) ? dashes(method, stroke.strokeWidth) : null, strokeLinejoin: "round"}),
          !isProfile && (isSingle || method.isOwn) ? Plot.dot(data, {x: "x", y: "y", fill: stroke.stroke, symbol: method.marker, r: isNamed(line.m) ? 2.6 : 1.4}) : null,
        ];
      });
      const offline = !isPart && panel.border ? panel.border : null;
      const height = Math.round(Math.max(190, Math.min(320, width * 0.66)));
      const [labels, right] = panel.domain == null ? endLabels(panel, lines, view, height - 62) : [[], 14];
      const options = {
        width, height, marginLeft: 44, marginRight: right, marginTop: 22, marginBottom: panel.domain == null ? 40 : 24, clip: true,
        x: {domain: limits}, y: {domain: panel.y.limits}, color: {type: "identity"},
        marks: [
          offline ? Plot.rect([0], {x1: limits[0], x2: offline, y1: panel.y.limits[0], y2: panel.y.limits[1], fill: "var(--shade)"}) : null,
          Plot.gridY({...GRID, ticks: 5}), Plot.gridX({...GRID, ticks: 4}),
          Plot.axisX({label: panel.domain == null ? panel.x.label : null, labelAnchor: "center", labelArrow: "none", ticks: 4, tickSize: 0, tickFormat: panel.x.kind === "steps" ? short : undefined, clip: false, ...FONT}),
          Plot.axisY({label: cut(panel.y.label, Math.floor(width / LETTER) - 2), labelArrow: "none", ticks: 5, tickSize: 0, clip: false, ...FONT}),
          ...marks,
          Plot.text(labels, {x: limits[1], y: "y", text: "text", fill: "fill", fontSize: 11, fontWeight: d => (d.isOwn ? 600 : 400), textAnchor: "start", dx: 5, clip: false}),
          Plot.dot(points, Plot.pointer({x: "x", y: "value", r: 5, stroke: "var(--ink)", strokeWidth: 1.5, maxRadius: 40, clip: false})),
        ],
      };
      const describe = d => [
        view.methods[d.m].title, `${panel.y.label}: ${onCurve(d, panel.y.digits)}`,
        WHERE[panel.x.kind](d.x, panel.x.digits),
        `${d.line.phase}${panel.domain == null ? "" : `, ${panel.title}`}`, plural(d.line.seeds),
      ];
      return titled(panel.title, plot(options, points, describe, `${panel.title}, ${panel.y.label}`), width);
    });
  }

  /** The names of curves at their ends, moved apart, and the room that they take; the others are counted together. */
  function endLabels(panel, lines, view, height) {
    const last = new Map(lines.map(line => [line.m, line]).sort((a, b) => a[1].x[0] - b[1].x[0])); // its last phase
    const [named, others] = [[], []];
    for (const line of last.values()) (panel.named.includes(line.m) ? named : others).push(line);
    const labels = named.map(line => ({
      y: line.y.at(-1), text: cut(view.methods[line.m].title, 18), fill: paint(panel, view, line.m), isOwn: view.methods[line.m].isOwn,
    }));
    const middle = others.map(line => line.y.at(-1)).sort((a, b) => a - b)[others.length >> 1];
    if (others.length) labels.push({y: middle, text: `${others.length} others`, fill: "var(--quiet)"});
    labels.sort((a, b) => a.y - b.y);
    const [low, high] = panel.y.limits;
    const gap = 12 * (high - low) / height;
    labels.forEach((label, k) => { label.y = Math.max(label.y, k ? labels[k - 1].y + gap : low); });
    for (let k = labels.length - 1; k >= 0; k--) labels[k].y = Math.min(labels[k].y, k + 1 < labels.length ? labels[k + 1].y - gap : high);
    return [labels, 14 + LETTER * Math.max(0, ...labels.map(label => label.text.length))];
  }

  /** Cells of a grid with a number inside where there is room; `shade` gives colour and how much of it. */
  function cells(options, found, describe, label, {shade, text, isQuiet}) {
    const space = (options.width - options.marginLeft - options.marginRight) / options.x.domain.length;
    const strong = d => shade(d)[1] > 66;
    const texts = (filter, fill) => Plot.text(found.filter(filter), {x: d => d.at[0], y: d => d.at[1], text, fill, fontSize: Math.min(11, space / 2.7)});
    const marks = [
      ...options.marks,
      Plot.cell(found, {
        x: d => d.at[0], y: d => d.at[1], inset: 0.5,
        fill: d => `color-mix(in oklab, var(--${shade(d)[0]}) ${Math.round(shade(d)[1])}%, var(--paper))`,
      }),
      ...(space < 19 ? [] : [
        texts(d => strong(d), "var(--paper)"),
        texts(d => !strong(d) && !isQuiet(d), "var(--ink)"),
        texts(d => !strong(d) && isQuiet(d), "var(--quiet)"),
      ]),
      Plot.cell(found, Plot.pointer({x: d => d.at[0], y: d => d.at[1], stroke: "var(--ink)", strokeWidth: 2, maxRadius: 60})),
    ];
    return plot({...options, marks, color: {type: "identity"}}, found, describe, label);
  }

  /** The names of methods above their columns, turned so that they fit. */
  const columnLabels = (methods, view, letters) =>
    Plot.text(methods, {...FONT, x: m => m, text: m => cut(view.methods[m].title, letters), frameAnchor: "top", textAnchor: "start", rotate: -50, dy: -6, dx: 2});

  const heightAbove = (methods, view) =>
    Math.min(16, Math.max(...methods.map(m => view.methods[m].title.length))) * LETTER * 0.77 + 14;

  function matrix(drawing, view, width) {
    const panels = drawing.panels.map(panel => {
      const present = new Set(panel.cells.map(cell => cell.m));
      return {...panel, methods: ordered(panel.methods, view).filter(m => present.has(m))};
    }).filter(panel => view.hasPhase(panel.phase) && panel.methods.length > 1);
    const most = Math.max(0, ...panels.map(panel => panel.methods.length));
    const side = Math.max(0, ...panels.map(panel => sideFor(panel.methods, view, width)));
    const least = Math.min(width, Math.max(280, side + 36 + most * 22));
    return arrange(panels, width, least, 0).map(({panel, width}) => {
      const {methods} = panel;
      const found = panel.cells
        .filter(cell => methods.includes(cell.m) && methods.includes(cell.other))
        .map(cell => ({...cell, at: [cell.other, cell.m]}));
      const right = 36, top = heightAbove(methods, view);
      const size = Math.max(SMALLEST_CELL, Math.min(34, (width - side - right) / methods.length));
      const options = {
        width: Math.round(side + right + size * methods.length), height: Math.round(top + 4 + Math.min(size, 24) * methods.length),
        marginLeft: side, marginRight: right, marginTop: top, marginBottom: 4,
        x: {domain: methods, padding: 0, axis: null}, y: {domain: methods, padding: 0, axis: null},
        marks: [rowLabels(methods, view, side), columnLabels(methods, view, 16)],
      };
      const describe = d => [
        `${view.methods[d.m].title} against ${view.methods[d.other].title}`, `probability of improvement: ${d.text}`,
        d.difference ? `difference of means: ${d.difference.text} ${panel.unit}` : "", panel.title, plural(d.seeds),
      ];
      const svg = cells(options, found, describe, `${panel.title}, probability of improvement`, {
        shade: d => [d.value >= 0.5 ? "better" : "worse", Math.min(170 * Math.abs(d.value - 0.5), d.isClear ? 85 : 20)],
        text: d => Math.round(100 * d.value),
        isQuiet: d => !d.isClear,
      });
      return titled(panel.title, svg, width);
    });
  }

  function heat(drawing, view, width) {
    return drawing.panels.filter(panel => view.hasPhase(panel.phase)).map(panel => {
      const tasks = panel.tasks.map((task, k) => ({...task, k})).filter(task => task.domain == null || view.hasDomain(task.domain));
      const methods = ordered(panel.methods, view).filter(m => panel.cells.some(cell => cell.m === m));
      const kept = new Set(tasks.map(task => task.k));
      const found = panel.cells
        .filter(cell => kept.has(cell.task) && methods.includes(cell.m))
        .map(cell => ({...cell, at: [cell.m, cell.task]}));
      if (!found.length) return null;
      const firsts = tasks.filter((task, k) => k > 0 && task.domain !== tasks[k - 1].domain);
      const longest = Math.max(...tasks.map(task => task.name.length));
      const side = Math.round(Math.min((longest + 3) * LETTER, Math.max(width * 0.42, width - 60 * methods.length - 36))), top = heightAbove(methods, view);
      const full = Math.max(Math.min(width, side + 60 * methods.length + 36), side + SMALLEST_CELL * methods.length + 36);
      const options = {
        width: full, height: Math.round(top + 4 + 17 * tasks.length), marginLeft: side, marginRight: 36, marginTop: top, marginBottom: 4,
        x: {domain: methods, padding: 0, axis: null}, y: {domain: tasks.map(task => task.k), padding: 0, axis: null},
        marks: [
          Plot.text(tasks, {...FONT, y: "k", text: task => cut(task.name, Math.floor(side / LETTER) - 3, 5), frameAnchor: "left", textAnchor: "end", dx: -6}),
          columnLabels(methods, view, 16),
          Plot.ruleY(firsts, {y: "k", dy: -8.5, stroke: "var(--quiet)", strokeWidth: 0.6}),
        ],
      };
      const describe = d => [
        view.methods[d.m].title, `${panel.label}: ${d.text}`, panel.tasks[d.task].name, panel.title, plural(d.seeds),
      ];
      const svg = cells(options, found, describe, `${panel.title}, ${panel.label}, task by task`, {
        shade: d => ["heat", 4 + 92 * d.shade], text: d => written(d.value, 0), isQuiet: () => false,
      });
      return titled(panel.title, svg, width);
    }).filter(Boolean);
  }

  function runs(drawing, view, width) {
    const panels = drawing.panels.filter(panel => view.hasPhase(panel.phase));
    const side = sideFor(view.shown, view, width);
    return panels.flatMap(panel => arrange([panel], width, 300, side)).map(({panel, left, width}) => {
      const methods = ordered(panel.methods, view).filter(m => panel.points.some(d => d.m === m));
      const found = panel.points.filter(d => methods.includes(d.m) && (d.domain == null || view.hasDomain(d.domain)))
        .map((d, k) => ({...d, at: [d.value, methods.indexOf(d.m) + 0.6 * ((0.618 * k) % 1 - 0.5)]})); // apart, where many are equal
      const dots = {x: "value", y: d => d.at[1], r: 3.5};
      const options = {
        width, height: 36 * methods.length + 52, marginLeft: left, marginRight: 14, marginTop: 6, marginBottom: 44,
        x: {domain: panel.limits}, y: {domain: [-0.5, methods.length - 0.5], reverse: true, axis: null}, color: {type: "identity"},
        marks: [
          Plot.gridX({...GRID, ticks: 5}),
          Plot.axisX({label: panel.label, labelAnchor: "center", labelArrow: "none", labelOffset: 38, ticks: 5, tickSize: 0, ...FONT}),
          rowLabels(methods, view, side, m => methods.indexOf(m)),
          Plot.dot(found, {...dots, fill: d => colour(d.m), fillOpacity: 0.45, stroke: d => colour(d.m)}),
          Plot.dot(found, Plot.pointer({...dots, r: 6, stroke: "var(--ink)", strokeWidth: 1.5})),
        ],
      };
      const describe = d => [
        view.methods[d.m].title, `${panel.label}: ${written(d.value, panel.digits)}`,
        `${d.task}, seed ${d.seed}`, `${panel.phase}, step ${d.step.toLocaleString("en")}`, d.run,
      ];
      return titled(panel.title, plot(options, found, describe, `${panel.title}, single runs`), width);
    });
  }

  const KINDS = {intervals, curves, matrix, heat, runs};

  /** A short line as a method is drawn. */
  function swatch(m, method) {
    const name = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(name, "svg");
    const line = document.createElementNS(name, "line");
    const width = strokeWidth(method) + 0.5;
    const stroke = method.isMuted ? "var(--muted)" : colour(m);
    const all = {x1: 0, x2: 26, y1: 5, y2: 5, stroke, "stroke-width": width, "stroke-dasharray": dashes(method, width) ?? ""};
    for (const [key, value] of Object.entries(all)) line.setAttribute(key, value);
    for (const [key, value] of Object.entries({width: 26, height: 10, "aria-hidden": true})) svg.setAttribute(key, value);
    svg.append(line);
    return svg;
  }

  /** Buttons for the methods that a figure of small curves names, which show or hide them everywhere. */
  function legend(drawing, view) {
    const drawn = new Set(drawing.panels.flatMap(panel => panel.lines.map(line => line.m)));
    const named = new Set(drawing.panels.flatMap(panel => panel.named.filter(m => drawn.has(m))));
    const items = [...named].map(m => {
      const method = view.methods[m];
      const attributes = {type: "button", "aria-pressed": view.hasMethod(m), "data-toggle": m};
      if (method.isOwn) attributes.class = "own";
      return element("li", {}, element("button", attributes, swatch(m, method), method.title));
    });
    const others = drawn.size > named.size ? [element("li", {class: "others"}, `grey: ${drawn.size - named.size} others`)] : [];
    return element("ul", {class: "legend", "aria-label": "Methods"}, ...items, ...others);
  }

  /** Draw a figure into its holder, so wide; `view` says what is shown. */
  function draw(holder, drawing, view, width) {
    const panels = KINDS[drawing.type](drawing, view, width);
    const shown = panels.length ? panels : [element("p", {class: "empty"}, "Everything in this figure is hidden.")];
    const isSmall = drawing.type === "curves" && drawing.panels.some(panel => panel.domain != null);
    holder.replaceChildren(element("div", {class: `panels ${drawing.type}`}, ...shown), ...(isSmall ? [legend(drawing, view)] : []));
  }

  return {draw, element, swatch, hideTip, moveTip};
})();
