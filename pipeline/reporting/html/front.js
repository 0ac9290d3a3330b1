// The fronts over the chosen axes, the straight-line fits, and the figures of the chosen system.
const points = unpack(data.points);
const fits = unpack(data.fits);
const hidden = new Set(); // strategies or kinds whose box is clear, and "published"
const groupOf = (point) => point[$("by").value]; // what has a colour: its strategy or its kind
const onBias = () => $("cost").value === "rank_distance";
const withBias = () => $("with-bias").checked && !onBias();
const axesChosen = () => ["benchmark", "setting", "cost"].map((id) => $(id).value);
const inAxes = (row) => ["benchmark", "setting", "cost"].every((id) => row[id] === $(id).value);

function ranked(panel) {
  // Strategies, or kinds, by the accuracy that each reaches at its highest cost, the most accurate first, as in pareto.png.
  const largest = {};
  const byCost = [...panel].sort((a, b) => a.value - b.value || a.accuracy - b.accuracy);
  byCost.forEach((point) => (largest[groupOf(point)] = point.accuracy));
  return Object.keys(largest).sort((a, b) => largest[b] - largest[a]);
}

function figureOf(system, key) {
  return data.systems[system].figures[Object.keys(data.figures).indexOf(key)];
}

function hover(point) {
  const {benchmark, setting, cost, system} = point;
  const keys = [`${benchmark}|${setting}`, onBias() ? `${benchmark}|rank_distance` : cost];
  const lines = keys.map((key) => `${data.figures[key]}: ${figureOf(system, key)}`);
  const third = point.rank_distance == null ? "" : `, with language bias in ${point.chance_with_bias}`;
  const drawn = point.cost_drawn ? "costs and accuracies" : "accuracies";
  lines.push(`on the Pareto front in ${point.chance} of draws of ${drawn}${third}`);
  return `<b>${data.systems[system].label}</b><br>${lines.join("<br>")}`;
}

function sizes(shown) {
  // By system: the size of each model, once, at its most accurate point.
  const best = {};
  shown.forEach((point) => {
    if (!best[point.model] || point.accuracy > best[point.model].accuracy) best[point.model] = point;
  });
  return Object.fromEntries(Object.values(best).map(({system}) => [system, data.systems[system].size]));
}

const SUFFIX = {passed: "", failed: "-open", "not measured": "-open-dot"}; // of a plotly symbol, by quality

function ownFront(shown) {
  // Those of some points, in the order of their cost, that are more accurate than all cheaper ones.
  let best = -Infinity;
  return shown.filter(({accuracy}) => {
    const better = accuracy > best;
    best = Math.max(best, accuracy);
    return better;
  });
}

function groupTraces(shown, group, rank, labels, colours) {
  // Every point at its cost. Where strategies share it, white edges set markers off, and caps differ in width.
  const {symbol, colour, name} = lookOf(group, colours);
  const cap_px = 2 + rank;
  const own = ownFront(shown);
  const x = shown.map((point) => point.value);
  return [
    {x: own.map((point) => point.value), y: own.map((point) => point.accuracy), mode: "lines",
     line: {color: colour, width: 1}, opacity: 0.6, hoverinfo: "skip"},
    {x, y: shown.map((point) => point.accuracy), mode: "markers+text", name,
     customdata: shown.map((point) => point.system), text: shown.map((point) => labels[point.system] ?? ""),
     textposition: "top left", textfont: {color: colours.soft, size: 12},
     hovertext: shown.map(hover), hoverinfo: hoverinfo(),
     marker: {size: 10, color: colour,
              line: {color: colours.paper, width: shown.map((point) => (point.quality === "passed" ? 1 : 2))},
              opacity: shown.map((point) => (withBias() && !point.on_front_with_bias ? 0.2 : 1)),
              symbol: shown.map((point) => `${symbol}${SUFFIX[point.quality]}`)},
     error_y: errorBars(shown, "accuracy_low", "accuracy_high", "accuracy", colour, cap_px),
     ...(onBias() && {error_x: errorBars(shown, "value_low", "value_high", "value", colour)})},
  ];
}

function costIntervals(panel, colours) {
  // At the foot of the plot, once for each cost: systems that share a profile share its interval.
  const drawn = panel.filter((point) => point.cost_drawn && !onBias());
  const distinct = [...new Map(drawn.map((point) => [point.value, point])).values()];
  const line = {color: colours.soft, width: 2};
  return distinct.flatMap(({value, value_low, value_high}) => [
    {type: "line", xref: "x", yref: "paper", x0: value_low, x1: value_high, y0: 0.012, y1: 0.012, line},
    {type: "line", xref: "x", yref: "paper", x0: value, x1: value, y0: 0, y1: 0.024, line},
  ]);
}

function publishedLines() {
  const [benchmark, setting] = axesChosen();
  const lines = data.published.filter((line) => line.benchmark === benchmark && line.setting === setting);
  return onBias() ? lines.filter((line) => line.bias !== null) : lines;
}

function publishedTraces(axis, colours) {
  // One dotted line per figure, with 101 points to hover at. Language bias is published too: against it, one marker.
  const [start, end] = axis.range;
  const steps = [...Array(101).keys()].map((i) => start + ((end - start) * i) / 100);
  const x = steps.map((step) => (axis.type === "log" ? 10 ** step : step));
  return publishedLines().map((line) => {
    const text = `published: ${line.label}, ${line.accuracy}<br>${line.source}`;
    const look = {name: "published", hoverinfo: hoverinfo(), hovertext: text};
    if (onBias()) {
      const marker = {symbol: "star-open", size: 9, color: colours.soft};
      return {x: [line.bias], y: [line.accuracy], mode: "markers", marker, ...look};
    }
    return {x, y: x.map(() => line.accuracy), mode: "lines", line: {dash: "dot", color: colours.soft, width: 1}, ...look};
  });
}

function drawFront() {
  const [benchmark, setting, cost] = axesChosen();
  const variants = [...$("variant").querySelectorAll("input:checked")].map((box) => box.value);
  const panelPoints = points.filter(inAxes);
  const shown = panelPoints.filter((point) => variants.includes(data.systems[point.system].variant));
  const colours = theme();
  const origin = unique(panelPoints.map((point) => point.source)).sort().join(" and ");
  const axis = costAxis(panelPoints.map((point) => point.value), `${data.costs[cost]}, ${origin}`, colours);
  const front = panelPoints.filter((point) => point.on_front).sort((a, b) => a.value - b.value);
  const end = axis.type === "log" ? 10 ** axis.range[1] : axis.range[1];
  const traces = withBias() ? [] : [{
    x: [...front.map((point) => point.value), end], y: [...front, front.at(-1)].map((point) => point.accuracy),
    mode: "lines", line: {shape: "hv", color: colours.front, width: 6}, name: "Pareto front", hoverinfo: "skip",
  }];
  const labels = sizes(shown);
  const groups = ranked(panelPoints);
  groups.toReversed().filter((group) => !hidden.has(group)).forEach((group) => {
    const own = shown.filter((point) => groupOf(point) === group)
      .sort((a, b) => a.value - b.value || b.accuracy - a.accuracy);
    traces.push(...groupTraces(own, group, groups.indexOf(group), labels, colours)); // the best on top
  });
  if (!hidden.has("published")) traces.push(...publishedTraces(axis, colours));
  draw("front", traces, {
    xaxis: axis, yaxis: valueAxis(data.settings[benchmark][setting], colours), hovermode: "closest",
    shapes: costIntervals(panelPoints, colours),
  });
  drawLegend(groups, colours);
  const words = `${data.settings[benchmark][setting]} on ${benchmark} against ${data.costs[cost]}`;
  $("front").ariaLabel = `${words}: ${shown.length} systems, ${front.length} of them on the Pareto front`;
  $("repeats").hidden = !data.repeats_latency.includes(cost);
  document.querySelectorAll(".axes").forEach((note) => {
    note.hidden = false;
    note.querySelector("b").textContent = words;
  });
  panel = `${axesChosen().join("|")}|`;
  showTables();
}

function drawLegend(groups, colours) {
  const entries = groups.map((group) => {
    const {name, colour, glyph} = lookOf(group, colours);
    return [group, name, colour, glyph];
  });
  if (publishedLines().length) entries.push(["published", "published", colours.soft, "⋯"]);
  legend($("groups"), entries, hidden, drawFront);
}

function drawFit() {
  // The straight-line fit of each strategy over the logarithm of the cost, its interval, and the residuals.
  const [benchmark, setting, cost] = axesChosen();
  const panelPoints = fits.filter(inAxes);
  $("fit-block").hidden = panelPoints.length === 0;
  if (panelPoints.length === 0) return;
  const colours = theme();
  const traces = unique(panelPoints.map((fit) => fit.strategy)).flatMap((strategy) => {
    const {symbol, colour, name} = lookOf(strategy, colours);
    const line = panelPoints.filter((fit) => fit.strategy === strategy).sort((a, b) => a.value - b.value);
    const x = line.map((fit) => fit.value), y = (key) => line.map((fit) => fit[key]);
    const group = {legendgroup: strategy, showlegend: false, hoverinfo: "skip"};
    const texts = line.map((fit) => `${data.systems[fit.system].label}<br>residual ${fit.residual.toFixed(3)}`);
    const marker = {symbol, color: colour, size: 8};
    const marks = {x, mode: "markers", marker, hovertext: texts, hoverinfo: hoverinfo()};
    return [
      {x: [...x, ...x.toReversed()], y: [...y("high"), ...y("low").toReversed()], fill: "toself", mode: "none",
       fillcolor: colour, opacity: 0.15, ...group},
      {x, y: y("fitted"), mode: "lines", line: {color: colour, width: 1.5}, ...group},
      {...marks, y: y("accuracy"), name, legendgroup: strategy},
      {...marks, y: y("residual"), yaxis: "y2", legendgroup: strategy, showlegend: false},
    ];
  });
  const axis = costAxis(points.filter(inAxes).map((point) => point.value), data.costs[cost], colours);
  const label = data.settings[benchmark][setting];
  draw("fit", traces, {
    xaxis: {...axis, type: "log", anchor: "y2", range: axis.type === "log" ? axis.range : axis.range.map(Math.log10)},
    yaxis: {...valueAxis(label, colours), domain: [0.36, 1]}, hovermode: "closest", showlegend: true,
    yaxis2: {...valueAxis("residual", colours), zeroline: true, zerolinecolor: colours.soft, domain: [0, 0.26]},
    legend: {orientation: "h", y: 1.02, yanchor: "bottom", x: 0},
  });
}

function choose(system) {
  // The figures of the chosen system stay below the plot; its languages are shown.
  if (!system) return;
  const texts = data.systems[system].figures;
  const lines = Object.values(data.figures).map((label, i) => texts[i] && make("span", {}, make("em", {}, label), ` ${texts[i]}`));
  $("chosen").replaceChildren(make("strong", {}, data.systems[system].label), ...lines.filter(Boolean));
  $("chosen").hidden = false;
  $("point").value = system;
  if ($("system")) {
    $("system").value = system;
    drawAll($("system").closest("details"));
  }
}

function startFront() {
  const axes = () => {
    const values = (key, rows) => unique(rows.map((point) => point[key]));
    fill($("benchmark"), values("benchmark", points).map((name) => [name, name]), $("benchmark").value);
    const ofBenchmark = points.filter((point) => point.benchmark === $("benchmark").value);
    const labels = Object.entries(data.settings[$("benchmark").value]);
    const settings = labels.filter(([name]) => values("setting", ofBenchmark).includes(name));
    fill($("setting"), settings, $("setting").value || settings.at(-1)[0]);
    const panel = ofBenchmark.filter((point) => point.setting === $("setting").value);
    fill($("cost"), values("cost", panel).map((name) => [name, data.costs[name]]), $("cost").value);
    drawAll();
  };
  const variants = unique(Object.values(data.systems).map((system) => system.variant));
  $("variant").append(...variants.map(
    (variant) => make("label", {}, make("input", {type: "checkbox", value: variant, checked: true}), ` ${variant}`),
  ));
  $("variant").hidden = variants.length === 1;
  $("with-bias").parentElement.hidden = points.every((point) => point.rank_distance == null);
  const labels = unique(points.map((point) => point.system)).map((system) => [system, data.systems[system].label]);
  fill($("point"), [["", "click a marker, or choose"], ...labels.sort(([, a], [, b]) => a.localeCompare(b, "en", {numeric: true}))]);
  $("point").addEventListener("change", () => choose($("point").value));
  $("by").parentElement.hidden = unique(points.map((point) => point.kind)).length === 1;
  ["benchmark", "setting", "cost", "by", "variant", "with-bias"].forEach((id) => $(id).addEventListener("change", axes));
  figures.front = drawFront;
  figures.fit = drawFit;
  axes();
  $("front").on("plotly_click", ({points: [{customdata}]}) => choose(customdata)); // a marker, not a line
}
