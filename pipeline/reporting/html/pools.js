// Accuracy over the size of the pool, for benchmarks whose pools are samples.
const pools = unpack(data.pools);

function drawPools() {
  const colours = theme();
  const [benchmark, language] = [$("pool-benchmark").value, $("pool-language").value];
  const rows = pools.filter((row) => row.benchmark === benchmark && row.language === language);
  const traces = unique(rows.map((row) => row.system)).flatMap((system) => {
    const curve = rows.filter((row) => row.system === system);
    const {label} = data.systems[system];
    const {symbol, colour} = lookOf(curve[0].strategy, colours);
    const measured = curve.filter((row) => row.kind === "measured");
    const trace = (part, more) => ({
      x: part.map((row) => row.pool_size), y: part.map((row) => row.ndcg_10), legendgroup: system,
      error_y: errorBars(part, "low", "high", "ndcg_10", colour), mode: "lines+markers", ...more,
      hovertext: part.map((row) => `<b>${label}</b>, ${row.kind}<br>${row.text}`), hoverinfo: hoverinfo(),
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
  draw("pool", traces, {
    xaxis: axis, yaxis: valueAxis(data.pool_metric, colours), hovermode: "closest", showlegend: true,
    legend: {orientation: "h", y: -0.2, yanchor: "top", x: 0},
  });
}

function startPools() {
  const axes = () => {
    const rows = pools.filter((row) => row.benchmark === $("pool-benchmark").value);
    const languages = unique(rows.map((row) => row.language));
    fill($("pool-language"), languages.map((name) => [name, name]), $("pool-language").value);
    drawAll($("pool"));
  };
  fill($("pool-benchmark"), unique(pools.map((row) => row.benchmark)).map((name) => [name, name]));
  ["pool-benchmark", "pool-language"].forEach((id) => $(id).addEventListener("change", axes));
  figures.pool = drawPools;
  axes();
}
