"use strict";
// Draws each chart when it comes near the window, in the page's colours, and again for paper.
(function () {
  const PRINTED_WIDTH = 680;
  const charts = Array.from(document.querySelectorAll(".chart"));

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  // Every axis and text of a layout, as the flat keys that Plotly.relayout takes.
  function colours(layout) {
    const set = { "font.color": colour("--ink"), "hoverlabel.bgcolor": colour("--paper"), "hoverlabel.font.color": colour("--ink") };
    for (const key of Object.keys(layout)) {
      if (/^[xy]axis\d*$/.test(key)) {
        set[key + ".gridcolor"] = colour("--grid");
        set[key + ".linecolor"] = colour("--line");
      }
    }
    (layout.annotations || []).forEach((_, i) => { set["annotations[" + i + "].font.color"] = colour("--ink"); });
    return set;
  }

  // Sets what a flat key such as "annotations[0].font.color" names.
  function put(into, key, value) {
    const parts = key.split(/[.[\]]+/), last = parts.pop();
    parts.reduce((at, part) => at[part] || (at[part] = {}), into)[last] = value;
  }

  // Plotly takes as long to load as the rest of the page: it is text until the first chart is drawn.
  function loadPlotly() {
    const source = document.getElementById("plotly");
    if (!source) return;
    const script = document.createElement("script");
    script.textContent = source.textContent;
    source.replaceWith(script);
  }

  function draw(chart) {
    if (chart.dataset.drawn) return;
    loadPlotly();
    chart.dataset.drawn = "yes";
    const figure = JSON.parse(document.getElementById(chart.id + "-data").textContent);
    const layout = Object.assign({ xaxis: {}, yaxis: {} }, figure.layout);
    layout.height = chart.clientHeight;
    for (const [key, colour] of Object.entries(colours(layout))) put(layout, key, colour);
    Plotly.newPlot(chart, figure.data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
  }

  function recolour() {
    for (const chart of charts) if (chart.dataset.drawn) Plotly.relayout(chart, colours(chart.layout));
  }

  // A cell's figure, with the signs that the page writes; text sorts behind figures.
  function value(row, column) {
    const text = row.cells[column].textContent.replace(/[\u2212\u2013]/g, "-").trim();
    const figure = parseFloat(text);
    return Number.isNaN(figure) ? [1, text] : [0, figure];
  }

  function sort(table, column, button) {
    const head = button.parentElement, down = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = Array.from(table.tBodies[0].rows).map((row) => [value(row, column), row]);
    rows.sort(([a], [b]) => (a[0] - b[0]) || (a[0] ? a[1].localeCompare(b[1]) : a[1] - b[1]) * (down ? -1 : 1));
    table.tBodies[0].append(...rows.map((pair) => pair[1]));
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    Array.from(table.tHead.rows[0].cells).forEach(function (head, column) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.addEventListener("click", () => sort(table, column, button));
      head.replaceChildren(button);
    });
  }

  // Tables that are wider than the page say so.
  function sayIfWider() {
    for (const part of document.querySelectorAll(".wide")) part.classList.toggle("wider", part.scrollWidth > part.clientWidth + 1);
  }
  sayIfWider();
  addEventListener("resize", sayIfWider);
  document.querySelectorAll("details").forEach((one) => one.addEventListener("toggle", sayIfWider));

  for (const part of document.querySelectorAll(".examples")) {
    const rows = Array.from(part.querySelectorAll("tbody tr")), filters = Array.from(part.querySelectorAll("[data-filter]"));
    const filter = function () {
      const wanted = Object.fromEntries(filters.map((one) => [one.dataset.filter, one.value]));
      let shown = 0;
      for (const row of rows) {
        row.hidden = (wanted.area && row.dataset.area !== wanted.area) || (wanted.change && row.dataset.change !== wanted.change)
          || (wanted.text && !row.textContent.toLowerCase().includes(wanted.text.toLowerCase()));
        shown += !row.hidden;
      }
      part.querySelector("[data-shown]").textContent = shown + " of " + rows.length + " shown";
    };
    filters.forEach((one) => one.addEventListener("input", filter));
    filter();
  }

  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async function () {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "Copied";
    });
  }

  const near = new IntersectionObserver(function (seen) {
    for (const one of seen) if (one.isIntersecting) { near.unobserve(one.target); draw(one.target); }
  }, { rootMargin: "200px" });
  // After the first frame: until then the page answers to nothing.
  requestAnimationFrame(() => setTimeout(() => charts.forEach((chart) => near.observe(chart))));

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  addEventListener("beforeprint", function () {
    charts.forEach(draw);
    for (const chart of charts) Plotly.relayout(chart, Object.assign({ width: PRINTED_WIDTH }, colours(chart.layout)));
  });
  addEventListener("afterprint", function () {
    for (const chart of charts) Plotly.relayout(chart, Object.assign({ width: null, autosize: true }, colours(chart.layout)));
  });
})();
