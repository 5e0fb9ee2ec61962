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

  function draw(chart) {
    if (chart.dataset.drawn) return;
    chart.dataset.drawn = "yes";
    const figure = JSON.parse(document.getElementById(chart.id + "-data").textContent);
    const layout = Object.assign({ xaxis: {}, yaxis: {} }, figure.layout);
    layout.height = chart.clientHeight;
    Plotly.newPlot(chart, figure.data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
    Plotly.relayout(chart, colours(layout));
  }

  function recolour() {
    for (const chart of charts) if (chart.dataset.drawn) Plotly.relayout(chart, colours(chart.layout));
  }

  const near = new IntersectionObserver(function (seen) {
    for (const one of seen) if (one.isIntersecting) { near.unobserve(one.target); draw(one.target); }
  }, { rootMargin: "200px" });
  charts.forEach((chart) => near.observe(chart));

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  addEventListener("beforeprint", function () {
    charts.forEach(draw);
    for (const chart of charts) Plotly.relayout(chart, Object.assign({ width: PRINTED_WIDTH }, colours(chart.layout)));
  });
  addEventListener("afterprint", function () {
    for (const chart of charts) Plotly.relayout(chart, Object.assign({ width: null, autosize: true }, colours(chart.layout)));
  });
})();
