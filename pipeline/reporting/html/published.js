// Draws the fronts of published.html with the helpers of report.js, which comes before it.
function publishedPoints() {
  const [benchmark, setting] = $("published-panel").value.split("|");
  const chosen = data.rows.filter((p) => p.benchmark === benchmark && p.setting === setting);
  const pool = $("published-pool").value;
  const points = chosen.filter((p) => p.cost === $("published-cost").value);
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
  if (points.length === 0) return Plotly.purge("published-front");
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
        x: sizes.map((p) => p.value), y: sizes.map((p) => p.accuracy), mode: "lines", name: recipe, showlegend: false,
        line: {color: colours.soft, width: 1}, hoverinfo: "name",
      });
    });
  }
  Object.entries(data.looks).forEach(([name, {colour, symbol}]) => {
    const group = points.filter((p) => p.zero_shot === name);
    traces.push({
      x: group.map((p) => p.value), y: group.map((p) => p.accuracy), mode: "markers", name, hoverinfo: "text",
      marker: {size: 9, color: colour, line: {width: 1}, symbol: group.map((p) => symbol + (p.solid ? "" : "-open"))},
      hovertext: group.map((p) => p.text),
    });
  });
  Plotly.react("published-front", traces, layout(colours, {
    xaxis: axis, hovermode: "closest", margin: {l: 56, r: 12, t: 12, b: 48},
    yaxis: {title: {text: "nDCG@10"}, gridcolor: colours.line, zeroline: false, automargin: true},
    legend: {orientation: "h", y: 1.02, yanchor: "bottom", x: 0},
  }), config());
}

fill($("published-panel"), data.panels);
fill($("published-cost"), Object.entries(data.costs));
fill($("published-pool"), data.pools.map((name) => [name, name]));
["panel", "cost", "pool", "recipes"].forEach((id) => $(`published-${id}`).addEventListener("change", drawPublished));
[dark, phone].forEach((query) => query.addEventListener("change", drawPublished));
matchMedia("print").addEventListener("change", drawPublished);
drawPublished();
