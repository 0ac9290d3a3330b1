// What all figures share: the data, colours, axes, and that a figure is drawn when its section opens.
const data = JSON.parse($("data").textContent);
const unique = (values) => [...new Set(values)];
const phone = matchMedia("(max-width: 600px)");
const dark = matchMedia("(prefers-color-scheme: dark)");
const paper = matchMedia("print");
const PAPER_PX = 680; // of A4 within its margins
const hoverinfo = () => (phone.matches ? "none" : "text"); // on a phone the figures appear below the plot

function unpack(columns) {
  // Rows of a table that Python packed by column (payload.py).
  const lists = Object.entries(columns).map(
    ([name, column]) => [name, Array.isArray(column) ? column : column.at.map((place) => column.of[place])],
  );
  const rows = [...Array(lists[0]?.[1].length ?? 0).keys()];
  return rows.map((row) => Object.fromEntries(lists.map(([name, values]) => [name, values[row]])));
}

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

function draw(id, traces, more, settings = {}) {
  const colours = theme();
  const layout = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: {color: colours.ink, size: 13},
    hoverlabel: {
      bgcolor: colours.paper, bordercolor: colours.soft, font: {color: colours.ink, size: 12}, align: "left",
    },
    margin: {l: 56, r: 12, t: 12, b: 48}, dragmode: phone.matches ? false : "zoom", showlegend: false,
    ...(paper.matches && {width: PAPER_PX, height: 330}), ...more,
  };
  const config = {
    displayModeBar: false, responsive: true, doubleClick: "reset", ...settings,
  };
  Plotly.react(id, traces, layout, config);
}

function costAxis(values, title, colours) {
  // Logarithmic if costs differ by more than a factor of 2, as in pareto.png.
  const low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
  const axis = {title: {text: title}, gridcolor: colours.line, zeroline: false, automargin: true};
  if (high <= 2 * low) {
    const margin = 0.15 * (high - low) || 0.1 * high;
    return {...axis, type: "linear", range: [low - margin, high + margin]};
  }
  const margin = 0.12 * Math.log10(high / low);
  const range = [Math.log10(low) - margin, Math.log10(high) + margin];
  const steps = high > 100 * low ? [1] : high > 10 * low ? [1, 2, 5] : [1, 1.5, 2, 3, 5, 7];
  const decades = [...Array(Math.ceil(range[1]) - Math.floor(range[0])).keys()].map((i) => i + Math.floor(range[0]));
  const ticks = decades.flatMap((decade) => steps.map((step) => Number((step * 10 ** decade).toPrecision(2))));
  return {...axis, type: "log", range, tickvals: ticks, ticktext: ticks.map((tick) => tick.toLocaleString("en"))};
}

function valueAxis(title, colours) {
  return {title: {text: title}, gridcolor: colours.line, zeroline: false, automargin: true};
}

function errorBars(points, low, high, value, colour, cap_px = 3) {
  return {
    type: "data", symmetric: false, thickness: 1, width: cap_px, color: `${colour}a0`,
    array: points.map((point) => point[high] - point[value]),
    arrayminus: points.map((point) => point[value] - point[low]),
  };
}

function lookOf(strategy, colours) {
  const {colour, ...look} = data.looks[strategy];
  return {...look, colour: colour === "#000000" ? colours.ink : colour};
}

function legend(fieldset, entries, hidden, redraw) {
  // entries: [key, name, colour, glyph]; a box per entry shows or hides it, in the order given.
  const title = fieldset.querySelector("legend");
  fieldset.replaceChildren(title, ...entries.map(([key, name, colour, glyph]) => {
    const box = make("input", {type: "checkbox", value: key, checked: !hidden.has(key)});
    const mark = make("i", {ariaHidden: "true"}, glyph);
    mark.style.setProperty("--colour", colour);
    box.addEventListener("change", () => {
      if (box.checked) hidden.delete(key);
      else hidden.add(key);
      redraw();
      fieldset.querySelector(`input[value="${CSS.escape(key)}"]`).focus();
    });
    return make("label", {}, box, " ", mark, ` ${name}`);
  }));
}

const figures = {}; // id of a figure -> what draws it
const folded = (element) => element.closest("details:not([open])");

function drawAll(part = document) {
  Object.entries(figures).forEach(([id, drawFigure]) => {
    if ($(id) && part.contains($(id)) && !folded($(id))) drawFigure();
  });
}

document.addEventListener("toggle", ({target}) => target.open && drawAll(target), true);

// On paper: light, without controls, and with the sections that make a summary.
const PRINTED = ["deploy", "sizes"];
let unfolded = [];
paper.addEventListener("change", () => drawAll());
addEventListener("beforeprint", () => {
  unfolded = PRINTED.map($).filter((part) => part && !part.open);
  unfolded.forEach((part) => (part.open = true));
});
addEventListener("afterprint", () => unfolded.forEach((part) => (part.open = false)));
[dark, phone].forEach((query) => query.addEventListener("change", () => drawAll()));
