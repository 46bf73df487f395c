// Draws the tables in `figure.chart` with uPlot: the table is what is true, the picture only shows it.
"use strict";

(() => {
  const colors = () => {
    const style = getComputedStyle(document.documentElement);
    return {
      ink: style.getPropertyValue("--quiet").trim(),
      line: style.getPropertyValue("--line").trim(),
      series: [1, 2, 3, 4, 5, 6, 7, 8].map((n) => style.getPropertyValue(`--series-${n}`).trim()),
    };
  };
  const dashes = [[], [6, 4], [2, 3], [10, 3, 2, 3], [], [6, 4], [2, 3], [10, 3, 2, 3]];

  function read(table) {
    const names = [...table.tHead.rows[0].cells].slice(1).map((cell) => cell.textContent);
    const rows = [...table.tBodies[0].rows];
    const instants = rows.map((row) => Number(row.cells[0].dataset.value));
    const series = names.map((_, n) => rows.map((row) => (row.cells[n + 1].textContent === "" ? null : Number(row.cells[n + 1].textContent))));
    return { names, instants, series };
  }

  function draw(figure) {
    const plot = figure.querySelector(".plot");
    const { names, instants, series } = read(figure.querySelector("details table"));
    plot.replaceChildren();
    if (instants.length < 2) return;
    const stacked = figure.dataset.chart === "stacked";
    const { ink, line, series: inks } = colors();
    // Of a stack each series is drawn on top of those before it, the highest first, so that the lower ones stay in sight.
    let shown = series;
    if (stacked) {
      const sum = instants.map(() => 0);
      shown = series.map((values) => values.map((value, i) => (sum[i] += value ?? 0)));
    }
    const order = names.map((_, n) => n);
    if (stacked) order.reverse();
    const axis = { stroke: ink, grid: { stroke: line, width: 0.5 }, ticks: { stroke: line } };
    const options = {
      width: Math.max(plot.clientWidth, 240),
      height: 200,
      legend: { live: false },
      cursor: { show: false },
      scales: { y: { range: (_, __, most) => [0, Math.max(most * 1.1, 1)] } },
      axes: [axis, axis],
      series: [
        {},
        ...order.map((n) => ({
          label: names[n],
          stroke: inks[n % inks.length],
          dash: stacked ? [] : dashes[n % dashes.length],
          width: 2,
          fill: stacked ? inks[n % inks.length] : undefined,
          points: { show: false },
        })),
      ],
    };
    new uPlot(options, [instants, ...order.map((n) => shown[n])], plot);
  }

  window.drawCharts = (root) => {
    for (const figure of root.querySelectorAll("figure.chart")) draw(figure);
  };
  let resizing;
  window.addEventListener("resize", () => {
    clearTimeout(resizing);
    resizing = setTimeout(() => window.drawCharts(document), 200);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => window.drawCharts(document));
})();
