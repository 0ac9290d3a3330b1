// The matrices of query by passage language of the chosen systems.
function heatMap(id, rows, languages, more) {
  const size = languages.length > 8 ? (phone.matches ? 8 : 11) : 13;
  const trace = {
    type: "heatmap", z: rows, x: languages, y: languages, hoverongaps: false, xgap: 1, ygap: 1, textfont: {size},
    hovertemplate: "query %{y}, passage %{x}: %{z:.3f}<extra></extra>", texttemplate: "%{z:.2f}",
    showscale: !phone.matches, colorbar: {thickness: 10, outlinewidth: 0}, ...more,
  };
  if (phone.matches) Object.assign(trace, {hovertemplate: "", hoverinfo: "none"});
  draw(id, [trace], {
    margin: {l: 56, r: 8, t: 8, b: 48}, xaxis: {title: {text: "passage"}, type: "category", showgrid: false},
    yaxis: {title: {text: "query", standoff: 8}, type: "category", autorange: "reversed", showgrid: false},
  });
}

function diverging(low, centre, high) {
  // Orange below the centre and blue above, two colours of Okabe & Ito that colour-blind readers can distinguish.
  const middle = (centre - low) / (high - low);
  return {colorscale: [[0, "#d55e00"], [middle, "#f7f7f7"], [1, "#0072b2"]], zmin: low, zmax: high};
}

function numbersOf(...matrices) {
  return matrices.flat(2).filter((value) => value !== null);
}

const least = (values) => values.reduce((a, b) => Math.min(a, b));
const most = (values) => values.reduce((a, b) => Math.max(a, b));

function drawMatrices() {
  const {languages, metric, accuracy, attraction} = data.matrices[$("matrix-benchmark").value];
  const system = $("system").value, other = $("other").value;
  const all = numbersOf(...Object.values(accuracy)); // a colour means the same for every system
  $("matrix-metric").textContent = metric;
  heatMap("matrix", accuracy[system], languages, {colorscale: "Cividis", zmin: least(all), zmax: most(all)});
  const contrast = accuracy[system].map(
    (row, i) => row.map((value, j) => (value === null ? null : value - accuracy[other][i][j])),
  );
  const far = most([1e-9, ...numbersOf(contrast).map(Math.abs)]);
  heatMap("contrast", contrast, languages, {...diverging(-far, 0, far), texttemplate: "%{z:+.2f}"});
  if ($("attraction") && attraction[system]) {
    const highest = most([2, ...numbersOf(...Object.values(attraction))]);
    heatMap("attraction", attraction[system], languages, diverging(0, 1, highest));
  }
}

function startMatrices() {
  const systems = () => {
    const {accuracy} = data.matrices[$("matrix-benchmark").value];
    const options = Object.keys(accuracy).map((system) => [system, data.systems[system].label]);
    fill($("system"), options, $("system").value);
    fill($("other"), options, $("other").value || options[1]?.[0]);
    drawAll($("matrix"));
  };
  fill($("matrix-benchmark"), Object.keys(data.matrices).map((name) => [name, name]));
  ["matrix-benchmark", "system", "other"].forEach((id) => $(id).addEventListener("change", systems));
  figures.matrix = drawMatrices;
  systems();
}
