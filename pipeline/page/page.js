// Draws the figures from the JSON in #data: the front of the chosen axes, the language matrices of the chosen cells.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const unique = (values) => [...new Set(values)];
const phone = matchMedia("(max-width: 760px)");
const dark = matchMedia("(prefers-color-scheme: dark)");

function fill(select, options, chosen) {
  // options: [value, text]; a choice that is still possible stays
  const kept = options.some(([value]) => value === chosen) ? chosen : options[0]?.[0];
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value, false, value === kept)));
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

// ---- the front ----

function costAxis(values, title, colours) {
  // Logarithmic where costs differ by more than a factor of 2, as in pareto.png.
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

function beside(x, place, axis, width_px) {
  // Strategies that share a cost are drawn some pixels apart.
  const shift = (place * 9 * (axis.range[1] - axis.range[0])) / width_px;
  return axis.type === "log" ? x * 10 ** shift : x + shift;
}

function hover(point) {
  const cell = data.cells[point.variant];
  const chance = data.chances[data.points.indexOf(point)];
  return `<b>${cell.label}</b><br>${cell.numbers.join("<br>")}<br>on this front in ${chance} of draws`;
}

function sizes(points) {
  // By variant: each model's size, told once, at the best of its points.
  const oneFamily = unique(points.map((point) => point.family)).length === 1;
  const best = (point) => !points.some((other) => other.model === point.model && other.accuracy > point.accuracy);
  return Object.fromEntries(
    points.filter(best).map((point) => [point.variant, String(oneFamily ? point.layers : point.model)]),
  );
}

function strategyTraces(points, strategy, place, axis, labels, colours) {
  const {symbol, ...look} = data.looks[strategy];
  const colour = look.colour === "#000000" ? colours.ink : look.colour;
  const width_px = $("front").clientWidth - 100;
  const x = (point) => beside(point.value, place, axis, width_px);
  const own = points.filter((point) => point.on_own_front);
  return [
    {x: own.map(x), y: own.map((point) => point.accuracy), mode: "lines", line: {color: colour, width: 1.5},
     legendgroup: strategy, showlegend: false, hoverinfo: "skip"},
    {x: points.map(x), y: points.map((point) => point.accuracy), mode: "markers+text", name: look.name,
     legendgroup: strategy, customdata: points.map((point) => point.variant),
     text: points.map((point) => labels[point.variant] ?? ""),
     textposition: "top left", textfont: {color: colours.soft, size: 12},
     hovertext: points.map(hover), hoverinfo: "text",
     marker: {size: 10, color: colour, line: {width: 2, color: colour},
              symbol: points.map((point) => (point.grade_passed ? symbol : `${symbol}-open`))},
     error_y: {type: "data", symmetric: false, thickness: 1.2, width: 0, color: colour,
               array: points.map((point) => point.accuracy_high - point.accuracy),
               arrayminus: points.map((point) => point.accuracy - point.accuracy_low)}},
  ];
}

function publishedTraces(benchmark, setting, axis, colours) {
  // A dotted line each, with a place to hover at every hundredth of its way; one entry of the legend for all.
  const [start, end] = axis.range;
  const way = [...Array(101).keys()].map((i) => start + ((end - start) * i) / 100);
  const x = way.map((place) => (axis.type === "log" ? 10 ** place : place));
  const lines = data.published.filter((line) => line.benchmark === benchmark && line.setting === setting);
  return lines.map((line, index) => ({
    x, y: x.map(() => line.accuracy), mode: "lines", line: {dash: "dot", color: colours.soft, width: 1},
    name: "published, by others", legendgroup: "published", showlegend: index === 0, hoverinfo: "text",
    hovertext: `published: ${line.label}, ${line.accuracy}<br>${line.source}`,
  }));
}

function drawFront() {
  const [benchmark, setting, cost] = ["benchmark", "setting", "cost"].map((id) => $(id).value);
  const served = [...$("served").querySelectorAll("input:checked")].map((box) => box.value);
  const panel = data.points.filter((p) => p.benchmark === benchmark && p.setting === setting && p.cost === cost);
  const points = panel.filter((point) => served.includes(data.cells[point.variant].served));
  const colours = theme();
  const how = unique(panel.map((point) => point.source.split(":")[0])).sort().join(" and ");
  const axis = costAxis(panel.map((point) => point.value), `${data.costs[cost]}, ${how}`, colours);
  const front = panel.filter((point) => point.on_front).sort((a, b) => a.value - b.value);
  const end = axis.type === "log" ? 10 ** axis.range[1] : axis.range[1];
  const traces = [{
    x: [...front.map((point) => point.value), end], y: [...front, front.at(-1)].map((point) => point.accuracy),
    mode: "lines", line: {shape: "hv", color: colours.front, width: 6}, name: "front of all", hoverinfo: "skip",
  }];
  const labels = sizes(points);
  const strategies = Object.keys(data.looks).filter((name) => panel.some((point) => point.strategy === name));
  strategies.forEach((strategy, index) => {
    const own = points.filter((point) => point.strategy === strategy).sort((a, b) => a.value - b.value);
    traces.push(...strategyTraces(own, strategy, index - (strategies.length - 1) / 2, axis, labels, colours));
  });
  traces.push(...publishedTraces(benchmark, setting, axis, colours));
  Plotly.react("front", traces, layout(colours, {
    xaxis: axis, hovermode: "closest", margin: {l: 56, r: 12, t: 12, b: 48},
    yaxis: {title: {text: data.settings[setting]}, gridcolor: colours.line, zeroline: false, automargin: true},
    legend: {orientation: "h", y: 1.02, yanchor: "bottom", x: 0},
  }), config());
  const chosen = [benchmark, setting, cost].join("|") + "|";
  document.querySelectorAll("tr[data-panel]").forEach((row) => {
    row.hidden = !chosen.startsWith(`${row.dataset.panel}|`);
  });
}

function keep(variant) {
  // The clicked cell's figures stay below the front; its languages are shown.
  const cell = data.cells[variant];
  const line = (tag, text) => Object.assign(document.createElement(tag), {textContent: text});
  $("chosen").replaceChildren(line("strong", cell.label), ...cell.numbers.map((text) => line("span", text)));
  $("chosen").hidden = false;
  if ($("cell")) {
    $("cell").value = variant;
    drawMatrices();
  }
}

function startFront() {
  const axes = () => {
    const some = (key, rows) => unique(rows.map((point) => point[key]));
    fill($("benchmark"), some("benchmark", data.points).map((name) => [name, name]), $("benchmark").value);
    const rows = data.points.filter((point) => point.benchmark === $("benchmark").value);
    const settings = Object.keys(data.settings).filter((name) => some("setting", rows).includes(name));
    fill($("setting"), settings.map((name) => [name, data.settings[name]]), $("setting").value || settings.at(-1));
    const here = rows.filter((point) => point.setting === $("setting").value);
    fill($("cost"), some("cost", here).map((name) => [name, data.costs[name]]), $("cost").value);
    drawFront();
  };
  const kinds = unique(Object.values(data.cells).map((cell) => cell.served));
  kinds.forEach((kind) => {
    const label = document.createElement("label");
    label.append(Object.assign(document.createElement("input"), {type: "checkbox", value: kind, checked: true}), kind);
    $("served").append(label);
  });
  $("served").hidden = kinds.length === 1;
  ["benchmark", "setting", "cost", "served"].forEach((id) => $(id).addEventListener("change", axes));
  axes();
  $("front").on("plotly_click", ({points: [{customdata}]}) => customdata && keep(customdata)); // a mark, not a line
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
  // Orange below the centre and blue above, two colours of Okabe & Ito that all eyes tell apart.
  const middle = (centre - low) / (high - low);
  return {colorscale: [[0, "#d55e00"], [middle, "#f7f7f7"], [1, "#0072b2"]], zmin: low, zmax: high};
}

function numbersOf(...matrices) {
  return matrices.flat(2).filter((value) => value !== null);
}

function drawMatrices() {
  const {languages, mAP, attraction} = data.matrices[$("matrix-benchmark").value];
  const cell = $("cell").value, other = $("other").value;
  const all = numbersOf(...Object.values(mAP)); // a colour means the same in every cell
  heatMap("matrix", mAP[cell], languages, {colorscale: "Cividis", zmin: Math.min(...all), zmax: Math.max(...all)});
  const less = mAP[cell].map((row, i) => row.map((value, j) => (value === null ? null : value - mAP[other][i][j])));
  const far = Math.max(1e-9, ...numbersOf(less).map(Math.abs));
  heatMap("contrast", less, languages, {...diverging(-far, 0, far), texttemplate: "%{z:+.2f}"});
  if ($("attraction") && attraction[cell]) {
    const most = Math.max(2, ...numbersOf(...Object.values(attraction)));
    heatMap("attraction", attraction[cell], languages, diverging(0, 1, most));
  }
}

function startMatrices() {
  const cells = () => {
    const {mAP} = data.matrices[$("matrix-benchmark").value];
    const options = Object.keys(mAP).map((variant) => [variant, data.cells[variant].label]);
    fill($("cell"), options, $("cell").value);
    fill($("other"), options, $("other").value || options[1]?.[0]);
    drawMatrices();
  };
  fill($("matrix-benchmark"), Object.keys(data.matrices).map((name) => [name, name]));
  ["matrix-benchmark", "cell", "other"].forEach((id) => $(id).addEventListener("change", cells));
  cells();
}

function drawAll() {
  if ($("front")) drawFront();
  if ($("matrix")) drawMatrices();
}

if ($("matrix")) startMatrices();
if ($("front")) startFront();
[dark, phone].forEach((query) => query.addEventListener("change", drawAll));
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => (part.open = true)));
matchMedia("print").addEventListener("change", drawAll); // paper is light
