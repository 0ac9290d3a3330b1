// The fronts of published.html.
const rows = unpack(data.rows);
const hiddenClasses = new Set();
const SOLID = {suffix: "", size: 9, opacity: 1}, MODELLED = {suffix: "", size: 5, opacity: 0.5};
const FACES = {passed: SOLID, counted: SOLID, failed: {...SOLID, suffix: "-open"}}; // by quality, as in published.png
const faceOf = (point) => FACES[point.quality] ?? MODELLED;

function publishedPoints() {
  const [benchmark, setting] = $("published-panel").value.split("|");
  const chosen = rows.filter((p) => p.benchmark === benchmark && p.setting === setting);
  const pool = $("published-pool").value;
  const points = chosen.filter((p) => p.cost === $("published-cost").value && !hiddenClasses.has(p.zero_shot));
  return pool === data.everyone ? points : points.filter((p) => p.zero_shot === pool);
}

function frontOf(points) {
  // Points that no cheaper one equals, from the cheapest on.
  const sorted = [...points].sort((a, b) => a.value - b.value || b.accuracy - a.accuracy);
  let best = -Infinity;
  return sorted.filter((point) => point.accuracy > best && ((best = point.accuracy), true));
}

function drawPublished() {
  const colours = theme();
  const points = publishedPoints();
  const entries = Object.entries(data.looks).map(([name, {colour, glyph}]) => [name, name, colour, glyph]);
  legend($("published-classes"), entries, hiddenClasses, drawPublished);
  fill($("point"), [["", "click a marker, or choose"], ...unique(points.map((p) => p.model)).sort().map((name) => [name, name])], $("point").value);
  if (points.length === 0) return draw("published-front", [], {});
  const axis = costAxis(points.map((p) => p.value), data.costs[$("published-cost").value], colours);
  const front = frontOf(points), end = axis.type === "log" ? 10 ** axis.range[1] : axis.range[1];
  const traces = [{
    x: [...front.map((p) => p.value), end], y: [...front, front.at(-1)].map((p) => p.accuracy), mode: "lines",
    line: {shape: "hv", color: colours.front, width: 6}, name: "Pareto front", hoverinfo: "skip",
  }];
  if ($("published-recipes").checked) {
    unique(points.map((p) => p.recipe).filter(Boolean)).forEach((recipe) => {
      const sizes = points.filter((p) => p.recipe === recipe).sort((a, b) => a.value - b.value);
      if (sizes.length > 1) traces.push({
        x: sizes.map((p) => p.value), y: sizes.map((p) => p.accuracy), mode: "lines", name: recipe,
        line: {color: colours.soft, width: 1}, hoverinfo: phone.matches ? "none" : "name",
      });
    });
  }
  Object.entries(data.looks).forEach(([name, {colour, symbol}]) => {
    const group = points.filter((p) => p.zero_shot === name);
    traces.push({
      x: group.map((p) => p.value), y: group.map((p) => p.accuracy), mode: "markers", name, hoverinfo: hoverinfo(),
      marker: {
        color: colour, line: {width: 1}, symbol: group.map((p) => symbol + faceOf(p).suffix),
        size: group.map((p) => faceOf(p).size), opacity: group.map((p) => faceOf(p).opacity),
      },
      hovertext: group.map((p) => p.text), customdata: group.map((p) => p.model),
    });
  });
  draw("published-front", traces, {xaxis: axis, yaxis: valueAxis("nDCG@10", colours), hovermode: "closest"});
  $("published-front").ariaLabel = `nDCG@10 against ${data.costs[$("published-cost").value]}: ${points.length} models, ${front.length} of them on the Pareto front`;
}

function chooseModel(model) {
  // The figures of the chosen model stay below the plot.
  const point = publishedPoints().find((p) => p.model === model);
  if (!point) return;
  const [, ...lines] = point.text.split("<br>");
  $("chosen").replaceChildren(make("strong", {}, model), ...lines.map((line) => make("span", {}, line)));
  $("chosen").hidden = false;
  $("point").value = model;
}

fill($("published-panel"), data.panels);
fill($("published-cost"), Object.entries(data.costs));
fill($("published-pool"), data.pools.map((name) => [name, name]));
["panel", "cost", "pool", "recipes"].forEach((id) => $(`published-${id}`).addEventListener("change", drawPublished));
$("point").addEventListener("change", () => chooseModel($("point").value));
figures["published-front"] = drawPublished;
drawPublished();
showTables();
$("published-front").on("plotly_click", ({points: [{customdata}]}) => chooseModel(customdata));
