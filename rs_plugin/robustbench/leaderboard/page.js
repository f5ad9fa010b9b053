"use strict";
(() => {
  const board = document.getElementById("board");
  const body = board.tBodies[0];
  const rows = Array.from(body.rows);
  const heads = Array.from(board.tHead.rows[0].cells);
  const search = document.getElementById("search");
  const dataset = document.getElementById("dataset");
  const eps = document.getElementById("eps");
  const drawn = [];

  // Sorting: numbers fall first, texts rise first; equal ones keep their order.
  function sort(column) {
    const head = heads[column];
    const numeric = head.dataset.kind === "number";
    const first = numeric && column > 3 ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    heads.forEach((each) => each.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const key = (row) => row.cells[column].dataset.value;
    rows.sort((a, b) => sign * (numeric ? Number(key(a)) - Number(key(b)) : key(a).localeCompare(key(b))));
    rows.forEach((row) => body.append(row));
  }

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(column));
    head.setAttribute("aria-sort", "none");
    head.replaceChildren(button);
  });

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row) => {
      const text = row.textContent.toLowerCase();
      const fits = words.every((word) => text.includes(word))
        && (!dataset.value || row.dataset.dataset === dataset.value)
        && (!eps.value || Number(row.dataset.eps) === Number(eps.value));
      row.hidden = !fits;
      shown += fits ? 1 : 0;
    });
    document.getElementById("count").textContent = `${shown} of ${rows.length} models`;
  }

  const form = document.getElementById("filters");
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", filter);
  form.addEventListener("change", filter);

  function svg(name, attributes, text) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    Object.entries(attributes).forEach(([key, value]) => node.setAttribute(key, value));
    if (text !== undefined) node.textContent = text;
    return node;
  }

  function ticks(high) {
    const rough = high / 6;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
    return Array.from({ length: Math.floor(high / step + 1e-9) + 1 }, (_, i) => i * step);
  }

  function path(points, x, y) {
    // On the way to a radius the line stands at the accuracy of that radius.
    let text = `M${x(points[0][0])} ${y(points[0][1])}`;
    for (let i = 1; i < points.length; i += 1) text += `V${y(points[i][1])}H${x(points[i][0])}`;
    return text;
  }

  function draw() {
    const chart = document.getElementById("chart");
    const legend = document.getElementById("legend");
    chart.replaceChildren();
    legend.replaceChildren();
    const figure = document.getElementById("figure");
    figure.hidden = drawn.length === 0;
    if (drawn.length === 0) return;
    const curves = drawn.map((item) => JSON.parse(item.row.dataset.curve));
    const high = Math.max(...curves.map((points) => points[points.length - 1][0])) || 1;
    const x = (radius) => (50 + (650 * radius) / high).toFixed(2);
    const y = (share) => (340 - 3.2 * share).toFixed(2);
    [0, 20, 40, 60, 80, 100].forEach((share) => {
      chart.append(svg("line", { x1: 50, x2: 700, y1: y(share), y2: y(share), class: "grid" }));
      chart.append(svg("text", { x: 42, y: Number(y(share)) + 4, "text-anchor": "end" }, String(share)));
    });
    ticks(high).forEach((radius) => {
      chart.append(svg("line", { x1: x(radius), x2: x(radius), y1: 20, y2: 340, class: "grid" }));
      chart.append(svg("text", { x: x(radius), y: 358, "text-anchor": "middle" }, String(Number(radius.toPrecision(4)))));
    });
    chart.append(svg("line", { x1: 50, x2: 700, y1: 340, y2: 340, class: "axis" }));
    chart.append(svg("line", { x1: 50, x2: 50, y1: 20, y2: 340, class: "axis" }));
    chart.append(svg("text", { x: 375, y: 377, "text-anchor": "middle" }, "radius"));
    drawn.forEach((item, i) => {
      const style = `c${item.style % 6} d${item.style % 4}`;
      chart.append(svg("path", { d: path(curves[i], x, y), class: style }));
      if (curves[i].length < 12) {
        curves[i].forEach(([radius, share]) => {
          chart.append(svg("circle", { cx: x(radius), cy: y(share), r: 3.5, class: style, fill: "none" }));
        });
      }
      const line = document.createElement("li");
      const sample = svg("svg", { viewBox: "0 0 40 10", "aria-hidden": "true" });
      sample.append(svg("path", { d: "M0 5H40", class: style }));
      line.append(sample, item.row.dataset.title, ` (${item.row.dataset.dataset})`);
      legend.append(line);
    });
  }

  function toggle(row) {
    const place = drawn.findIndex((item) => item.row === row);
    if (place >= 0) {
      drawn.splice(place, 1);
    } else {
      const taken = new Set(drawn.map((item) => item.style));
      let style = 0;
      while (taken.has(style)) style += 1;
      drawn.push({ row, style });
    }
    row.classList.toggle("drawn", place < 0);
    row.setAttribute("aria-pressed", String(place < 0));
    draw();
    if (place < 0) document.getElementById("figure").scrollIntoView({ block: "nearest" });
  }

  rows.forEach((row) => {
    if (JSON.parse(row.dataset.curve).length === 0) return;
    row.tabIndex = 0;
    row.classList.add("clickable");
    row.addEventListener("click", (event) => {
      if (!event.target.closest("a, details")) toggle(row);
    });
    row.addEventListener("keydown", (event) => {
      if (event.target === row && (event.key === "Enter" || event.key === " ")) {
        event.preventDefault();
        toggle(row);
      }
    });
    document.getElementById("hint").hidden = false;
  });
  filter();
})();
