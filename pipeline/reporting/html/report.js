// Draws the figures from the JSON in #data: the fronts over the chosen axes, and the languages of the chosen systems.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const unique = (values) => [...new Set(values)];
const phone = matchMedia("(max-width: 760px)");
const dark = matchMedia("(prefers-color-scheme: dark)");

function fill(select, options, chosen) {
  // options: [value, text]; the choice stays if it is still possible
  const selected = options.some(([value]) => value === chosen) ? chosen : options[0]?.[0];
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value, false, value === selected)));
}

function theme() {
  const style = getComputedStyle(document.documentElement);
  const names = ["ink", "soft", "line", "paper", "front"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`)]));
}

function layout(colours, more) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: {color: colours.ink, size: 13},
    hoverlabel: {
      bgcolor: colours.paper, bordercolor: colours.soft, font: {color: colours.ink, size: 12}, align: "left",
    },
    modebar: {bgcolor: "rgba(0,0,0,0)", color: colours.soft, activecolor: colours.ink},
    dragmode: phone.matches ? false : "zoom", ...more,
  };
}
const config = () => ({
  displayModeBar: phone.matches ? false : "hover", responsive: true, displaylogo: false,
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
});

// ---- the fronts ----

function costAxis(values, title, colours) {
  // Logarithmic if costs differ by more than a factor of 2, as in pareto.png.
  const low = Math.min(...values), high = Math.max(...values);
  const axis = {title: {text: title}, gridcolor: colours.line, zeroline: false, automargin: true};
  if (high <= 2 * low) {
    const margin = 0.15 * (high - low) || 0.1 * high;
    return {...axis, type: "linear", range: [low - margin, high + margin]};
  }
  const margin = 0.12 * Math.log10(high / low);
  const range = [Math.log10(low) - margin, Math.log10(high) + margin];
  const steps = high > 10 * low ? [1, 2, 5] : [1, 1.5, 2, 3, 5, 7];
  const decades = [...Array(Math.ceil(range[1]) - Math.floor(range[0])).keys()].map((i) => i + Math.floor(range[0]));
  const ticks = decades.flatMap((decade) => steps.map((step) => Number((step * 10 ** decade).toPrecision(2))));
  return {...axis, type: "log", range, tickvals: ticks, ticktext: ticks.map((tick) => tick.toLocaleString("en"))};
}

function ranked(points) {
  // Strategies by the accuracy that each reaches at its highest cost, the most accurate first, as in pareto.png.
  const largest = {};
  const byCost = [...points].sort((a, b) => a.value - b.value || a.accuracy - b.accuracy);
  byCost.forEach((point) => (largest[point.strategy] = point.accuracy));
  return Object.keys(largest).sort((a, b) => largest[b] - largest[a]);
}

function hover(point) {
  const {label, numbers} = data.systems[point.system];
  const [chance, withBias] = data.chances[data.points.indexOf(point)];
  const third = point.rank_distance === null ? "" : `; with language bias in ${withBias}`;
  const drawn = point.cost_drawn ? "costs and accuracies" : "accuracies";
  return `<b>${label}</b><br>${numbers.join("<br>")}<br>on the Pareto front in ${chance} of draws of ${drawn}${third}`;
}

function errorBars(points, low, high, value, colour, cap_px = 3) {
  return {
    type: "data", symmetric: false, thickness: 1, width: cap_px, color: `${colour}a0`,
    array: points.map((point) => point[high] - point[value]),
    arrayminus: points.map((point) => point[value] - point[low]),
  };
}

function sizes(points) {
  // By system: the size of each model, once, at its most accurate point.
  const oneFamily = unique(points.map((point) => point.family)).length === 1;
  const best = (point) => !points.some((other) => other.model === point.model && other.accuracy > point.accuracy);
  return Object.fromEntries(
    points.filter(best).map((point) => [point.system, String(oneFamily ? point.layers : point.model)]),
  );
}

function lookOf(strategy, colours) {
  const {colour, ...look} = data.looks[strategy];
  return {...look, colour: colour === "#000000" ? colours.ink : colour};
}

const SUFFIX = {passed: "", failed: "-open", "not measured": "-open-dot"}; // of a plotly symbol, by quality

function strategyTraces(points, strategy, rank, labels, colours) {
  // Every point at its cost. Where strategies share it, white edges set markers off, and caps differ in width.
  const {symbol, colour, name} = lookOf(strategy, colours);
  const cap_px = 2 + rank;
  const own = points.filter((point) => point.on_own_front);
  const x = points.map((point) => point.value);
  return [
    {x: own.map((point) => point.value), y: own.map((point) => point.accuracy), mode: "lines",
     line: {color: colour, width: 1}, opacity: 0.6, legendgroup: strategy, showlegend: false, hoverinfo: "skip"},
    {x, y: points.map((point) => point.accuracy), mode: "markers+text", name,
     legendgroup: strategy, legendrank: rank, customdata: points.map((point) => point.system),
     text: points.map((point) => labels[point.system] ?? ""),
     textposition: "top left", textfont: {color: colours.soft, size: 12},
     hovertext: points.map(hover), hoverinfo: "text",
     marker: {size: 10, color: colour,
              line: {color: colours.paper, width: points.map((point) => (point.quality === "passed" ? 1 : 2))},
              opacity: points.map((point) => (withBias() && !point.on_front_with_bias ? 0.2 : 1)),
              symbol: points.map((point) => `${symbol}${SUFFIX[point.quality]}`)},
     error_y: errorBars(points, "accuracy_low", "accuracy_high", "accuracy", colour, cap_px),
     ...(onBias() && {error_x: errorBars(points, "value_low", "value_high", "value", colour)})},
  ];
}

function costIntervals(panel, colours) {
  // At the foot of the plot, once for each cost: systems that share a profile share its interval.
  const drawn = panel.filter((point) => point.cost_drawn && !onBias());
  const distinct = drawn.filter((point, i) => drawn.findIndex((other) => other.value === point.value) === i);
  const line = {color: colours.soft, width: 2};
  return distinct.flatMap(({value, value_low, value_high}) => [
    {type: "line", xref: "x", yref: "paper", x0: value_low, x1: value_high, y0: 0.012, y1: 0.012, line},
    {type: "line", xref: "x", yref: "paper", x0: value, x1: value, y0: 0, y1: 0.024, line},
  ]);
}

const onBias = () => $("cost").value === "rank_distance";
const withBias = () => $("with-bias").checked && !onBias();

function publishedTraces(benchmark, setting, axis, colours) {
  // One dotted line per figure, with 101 points to hover at; one legend entry for all. Language bias is published too:
  // against it, one marker per figure.
  const [start, end] = axis.range;
  const steps = [...Array(101).keys()].map((i) => start + ((end - start) * i) / 100);
  const x = steps.map((step) => (axis.type === "log" ? 10 ** step : step));
  const lines = data.published.filter((line) => line.benchmark === benchmark && line.setting === setting);
  const look = (line, index) => ({
    name: "published", legendgroup: "published", showlegend: index === 0, hoverinfo: "text",
    hovertext: `published: ${line.label}, ${line.accuracy}<br>${line.source}`,
  });
  if (onBias()) {
    return lines.filter((line) => line.bias !== null).map((line, index) => ({
      x: [line.bias], y: [line.accuracy], mode: "markers", marker: {symbol: "star-open", size: 9, color: colours.soft},
      ...look(line, index),
    }));
  }
  return lines.map((line, index) => ({
    x, y: x.map(() => line.accuracy), mode: "lines", line: {dash: "dot", color: colours.soft, width: 1},
    ...look(line, index),
  }));
}

function drawFront() {
  const [benchmark, setting, cost] = ["benchmark", "setting", "cost"].map((id) => $(id).value);
  const variants = [...$("variant").querySelectorAll("input:checked")].map((box) => box.value);
  const panel = data.points.filter((p) => p.benchmark === benchmark && p.setting === setting && p.cost === cost);
  const points = panel.filter((point) => variants.includes(data.systems[point.system].variant));
  const colours = theme();
  const origin = unique(panel.map((point) => point.source.split(":")[0])).sort().join(" and ");
  const axis = costAxis(panel.map((point) => point.value), `${data.costs[cost]}, ${origin}`, colours);
  const front = panel.filter((point) => point.on_front).sort((a, b) => a.value - b.value);
  const end = axis.type === "log" ? 10 ** axis.range[1] : axis.range[1];
  const traces = withBias() ? [] : [{
    x: [...front.map((point) => point.value), end], y: [...front, front.at(-1)].map((point) => point.accuracy),
    mode: "lines", line: {shape: "hv", color: colours.front, width: 6}, name: "Pareto front", hoverinfo: "skip",
    legendrank: 1001,
  }];
  const labels = sizes(points);
  const strategies = ranked(panel);
  strategies.toReversed().forEach((strategy) => { // the best is drawn last, on top
    const own = points.filter((point) => point.strategy === strategy).sort((a, b) => a.value - b.value);
    traces.push(...strategyTraces(own, strategy, strategies.indexOf(strategy), labels, colours));
  });
  $("repeats").hidden = !data.repeats_latency.includes(cost);
  traces.push(...publishedTraces(benchmark, setting, axis, colours));
  Plotly.react("front", traces, layout(colours, {
    xaxis: axis, hovermode: "closest", margin: {l: 56, r: 12, t: 12, b: 48}, shapes: costIntervals(panel, colours),
    yaxis: {
      title: {text: data.settings[benchmark][setting]}, gridcolor: colours.line, zeroline: false, automargin: true,
    },
    legend: {orientation: "h", y: 1.02, yanchor: "bottom", x: 0},
  }), config());
  drawFit(benchmark, setting, cost, axis, colours);
  const chosen = [benchmark, setting, cost].join("|") + "|";
  document.querySelectorAll("tr[data-panel]").forEach((row) => {
    row.hidden = !chosen.startsWith(`${row.dataset.panel}|`);
  });
  document.querySelectorAll("#fronts .block").forEach((block) => {
    block.hidden = !block.querySelector("tbody tr:not([hidden])");
  });
}

function drawFit(benchmark, setting, cost, axis, colours) {
  // The straight-line fit of each strategy over the logarithm of the cost, its interval, and the residuals.
  const panel = data.fits.filter((fit) => fit.benchmark === benchmark && fit.setting === setting && fit.cost === cost);
  $("fit-block").hidden = panel.length === 0;
  if (panel.length === 0) return;
  const traces = unique(panel.map((fit) => fit.strategy)).flatMap((strategy) => {
    const {symbol, colour, name} = lookOf(strategy, colours);
    const line = panel.filter((fit) => fit.strategy === strategy).sort((a, b) => a.value - b.value);
    const x = line.map((fit) => fit.value), y = (key) => line.map((fit) => fit[key]);
    const group = {legendgroup: strategy, showlegend: false, hoverinfo: "skip"};
    const texts = line.map((fit) => `${data.systems[fit.system].label}<br>residual ${fit.residual.toFixed(3)}`);
    const marker = {symbol, color: colour, size: 8};
    const marks = {x, mode: "markers", marker, hovertext: texts, hoverinfo: "text"};
    return [
      {x: [...x, ...x.toReversed()], y: [...y("high"), ...y("low").toReversed()], fill: "toself", mode: "none",
       fillcolor: colour, opacity: 0.15, ...group},
      {x, y: y("fitted"), mode: "lines", line: {color: colour, width: 1.5}, ...group},
      {...marks, y: y("accuracy"), name, legendgroup: strategy},
      {...marks, y: y("residual"), yaxis: "y2", legendgroup: strategy, showlegend: false},
    ];
  });
  const grid = {gridcolor: colours.line, automargin: true};
  Plotly.react("fit", traces, layout(colours, {
    xaxis: {...axis, type: "log", anchor: "y2"}, hovermode: "closest", margin: {l: 56, r: 12, t: 12, b: 48},
    yaxis: {...grid, zeroline: false, domain: [0.36, 1], title: {text: data.settings[benchmark][setting]}},
    yaxis2: {...grid, zerolinecolor: colours.soft, domain: [0, 0.26], title: {text: "residual"}},
    legend: {orientation: "h", y: 1.02, yanchor: "bottom", x: 0},
  }), config());
}

function choose(system) {
  // The figures of the clicked system stay below the plot; its languages are shown.
  const {label, numbers} = data.systems[system];
  const line = (tag, text) => Object.assign(document.createElement(tag), {textContent: text});
  $("chosen").replaceChildren(line("strong", label), ...numbers.map((text) => line("span", text)));
  $("chosen").hidden = false;
  if ($("system")) {
    $("system").value = system;
    drawMatrices();
  }
}

function startFront() {
  const axes = () => {
    const values = (key, points) => unique(points.map((point) => point[key]));
    fill($("benchmark"), values("benchmark", data.points).map((name) => [name, name]), $("benchmark").value);
    const points = data.points.filter((point) => point.benchmark === $("benchmark").value);
    const labels = Object.entries(data.settings[$("benchmark").value]);
    const settings = labels.filter(([name]) => values("setting", points).includes(name));
    fill($("setting"), settings, $("setting").value || settings.at(-1)[0]);
    const panel = points.filter((point) => point.setting === $("setting").value);
    fill($("cost"), values("cost", panel).map((name) => [name, data.costs[name]]), $("cost").value);
    drawFront();
  };
  const variants = unique(Object.values(data.systems).map((system) => system.variant));
  variants.forEach((variant) => {
    const label = document.createElement("label");
    const box = Object.assign(document.createElement("input"), {type: "checkbox", value: variant, checked: true});
    label.append(box, variant);
    $("variant").append(label);
  });
  $("variant").hidden = variants.length === 1;
  $("with-bias").parentElement.hidden = data.points.every((point) => point.rank_distance === null);
  ["benchmark", "setting", "cost", "variant", "with-bias"].forEach((id) => $(id).addEventListener("change", axes));
  axes();
  $("front").on("plotly_click", ({points: [{customdata}]}) => customdata && choose(customdata)); // a marker, not a line
}

// ---- the languages ----

function heatMap(id, rows, languages, more) {
  const colours = theme();
  const size = languages.length > 8 ? (phone.matches ? 8 : 11) : 13;
  const trace = {
    type: "heatmap", z: rows, x: languages, y: languages, hoverongaps: false, xgap: 1, ygap: 1, textfont: {size},
    hovertemplate: "query %{y}, passage %{x}: %{z:.3f}<extra></extra>", texttemplate: "%{z:.2f}",
    showscale: !phone.matches, colorbar: {thickness: 10, outlinewidth: 0}, ...more,
  };
  Plotly.react(id, [trace], layout(colours, {
    margin: {l: 56, r: 8, t: 8, b: 48}, xaxis: {title: {text: "passage"}, type: "category", showgrid: false},
    yaxis: {title: {text: "query", standoff: 8}, type: "category", autorange: "reversed", showgrid: false},
  }), {...config(), displayModeBar: false});
}

function diverging(low, centre, high) {
  // Orange below the centre and blue above, two colours of Okabe & Ito that colour-blind readers can distinguish.
  const middle = (centre - low) / (high - low);
  return {colorscale: [[0, "#d55e00"], [middle, "#f7f7f7"], [1, "#0072b2"]], zmin: low, zmax: high};
}

function numbersOf(...matrices) {
  return matrices.flat(2).filter((value) => value !== null);
}

function drawMatrices() {
  const {languages, metric, accuracy, attraction} = data.matrices[$("matrix-benchmark").value];
  const system = $("system").value, other = $("other").value;
  const all = numbersOf(...Object.values(accuracy)); // a colour means the same for every system
  $("matrix-metric").textContent = metric;
  const scale = {colorscale: "Cividis", zmin: Math.min(...all), zmax: Math.max(...all)};
  heatMap("matrix", accuracy[system], languages, scale);
  const contrast = accuracy[system].map(
    (row, i) => row.map((value, j) => (value === null ? null : value - accuracy[other][i][j])),
  );
  const far = Math.max(1e-9, ...numbersOf(contrast).map(Math.abs));
  heatMap("contrast", contrast, languages, {...diverging(-far, 0, far), texttemplate: "%{z:+.2f}"});
  if ($("attraction") && attraction[system]) {
    const most = Math.max(2, ...numbersOf(...Object.values(attraction)));
    heatMap("attraction", attraction[system], languages, diverging(0, 1, most));
  }
}

function startMatrices() {
  const systems = () => {
    const {accuracy} = data.matrices[$("matrix-benchmark").value];
    const options = Object.keys(accuracy).map((system) => [system, data.systems[system].label]);
    fill($("system"), options, $("system").value);
    fill($("other"), options, $("other").value || options[1]?.[0]);
    drawMatrices();
  };
  fill($("matrix-benchmark"), Object.keys(data.matrices).map((name) => [name, name]));
  ["matrix-benchmark", "system", "other"].forEach((id) => $(id).addEventListener("change", systems));
  systems();
}

// ---- the pools that are samples ----

function drawPools() {
  const colours = theme();
  const [benchmark, language] = [$("pool-benchmark").value, $("pool-language").value];
  const rows = data.pools.filter((row) => row.benchmark === benchmark && row.language === language);
  const traces = unique(rows.map((row) => row.system)).flatMap((system) => {
    const curve = rows.filter((row) => row.system === system);
    const {label} = data.systems[system];
    const {symbol, colour} = lookOf(curve[0].strategy, colours);
    const measured = curve.filter((row) => row.kind === "measured");
    const trace = (part, more) => ({
      x: part.map((row) => row.pool_size), y: part.map((row) => row.ndcg_10), legendgroup: system,
      error_y: errorBars(part, "low", "high", "ndcg_10", colour), mode: "lines+markers", ...more,
      hovertext: part.map((row) => `<b>${label}</b>, ${row.kind}<br>${row.text}`), hoverinfo: "text",
    });
    const further = curve.slice(measured.length - 1);
    return [
      trace(further, {line: {color: colour, dash: "dot", width: 1.5}, showlegend: false,
                      marker: {symbol: `${symbol}-open`, color: colour, size: 7}}),
      trace(measured, {line: {color: colour, width: 1.5}, name: label,
                       marker: {symbol, color: colour, size: 8}}),
    ];
  });
  const axis = costAxis(rows.map((row) => row.pool_size), "passages in the pool", colours);
  Plotly.react("pool", traces, layout(colours, {
    xaxis: axis, hovermode: "closest", margin: {l: 56, r: 12, t: 12, b: 48},
    yaxis: {title: {text: data.pool_metric}, gridcolor: colours.line, zeroline: false, automargin: true},
    legend: {orientation: "h", y: -0.2, yanchor: "top", x: 0},
  }), config());
}

function startPools() {
  const axes = () => {
    const rows = data.pools.filter((row) => row.benchmark === $("pool-benchmark").value);
    const languages = unique(rows.map((row) => row.language));
    fill($("pool-language"), languages.map((name) => [name, name]), $("pool-language").value);
    drawPools();
  };
  fill($("pool-benchmark"), unique(data.pools.map((row) => row.benchmark)).map((name) => [name, name]));
  ["pool-benchmark", "pool-language"].forEach((id) => $(id).addEventListener("change", axes));
  axes();
}

function drawAll() {
  if ($("pool")) drawPools();
  if ($("front")) drawFront();
  if ($("matrix")) drawMatrices();
}

if ($("matrix")) startMatrices();
if ($("pool")) startPools();
if ($("front")) startFront();
[dark, phone].forEach((query) => query.addEventListener("change", drawAll));
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => (part.open = true)));
matchMedia("print").addEventListener("change", drawAll); // paper is light
