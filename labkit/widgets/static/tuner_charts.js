// The tuner's four pictures, drawn on canvases: a few hundred points each, redrawn whole at every answer.

function canvasChart(title) {
  const canvas = h("canvas", { role: "img", "aria-label": title });
  const value = h("span", { class: "labkit-number labkit-muted" });
  const node = h("figure", { class: "labkit-tuner-chart" }, h("figcaption", {}, h("span", {}, title), value), canvas);
  let draw = () => {};
  const paint = () => {
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (!width) return;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    draw(context, width, height, coloursOf(canvas));
  };
  const observer = new ResizeObserver(paint);
  observer.observe(canvas);
  // What is drawn keeps its colours until it is drawn again: a change of the theme must do so.
  const theme = new MutationObserver(() => requestAnimationFrame(paint));
  theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "class"] });
  return {
    node,
    close() {
      observer.disconnect();
      theme.disconnect();
    },
    show(next, text) {
      draw = next;
      setText(value, text);
      setAttribute(canvas, "aria-label", `${title}: ${text}`);
      paint();
    },
  };
}

function coloursOf(node) {
  const style = getComputedStyle(node);
  const colour = (name) => style.getPropertyValue(`--labkit-${name}`).trim();
  return { text: colour("soft"), line: colour("line"), brand: colour("brand"), good: colour("good"), bad: colour("bad"), warn: colour("warn") };
}

const MARGIN = { left: 52, right: 10, top: 8, bottom: 18 };

// Scales of a plane, its grid and its labels drawn.
function plane(context, width, height, colours, [low, high], label, below) {
  const room = high > low ? (high - low) * 0.06 : Math.abs(high) * 0.01 || 1;
  const [from, to] = [low - room, high + room];
  const x = (share) => MARGIN.left + share * (width - MARGIN.left - MARGIN.right);
  const y = (value) => height - MARGIN.bottom - ((value - from) / (to - from)) * (height - MARGIN.top - MARGIN.bottom);
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";
  context.textAlign = "right";
  context.lineWidth = 1;
  for (const [value, step] of ticks(low, high)) {
    context.strokeStyle = colours.line;
    context.beginPath();
    context.moveTo(x(0), Math.round(y(value)) + 0.5);
    context.lineTo(x(1), Math.round(y(value)) + 0.5);
    context.stroke();
    context.fillStyle = colours.text;
    context.fillText(label(value, step), MARGIN.left - 6, y(value));
  }
  context.textBaseline = "alphabetic";
  [["left", 0], ["right", 1]].forEach(([align, share], at) => {
    context.textAlign = align;
    context.fillText(below[at], x(share), height - 4);
  });
  return { x, y };
}

// Round numbers within a range, three to six of them, each with the step between them.
function ticks(low, high) {
  if (!(high > low)) return [[low, 1]];
  const rough = (high - low) / 3;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [5, 2, 1].find((times) => times * power <= rough) * power;
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + 1e-9 * step; at++) found.push([at * step, step]);
  return found;
}

function rangeOf(...lists) {
  let low = Infinity;
  let high = -Infinity;
  for (const list of lists) {
    for (const value of list) {
      if (!Number.isFinite(value)) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  return low <= high ? [low, high] : [0, 1];
}

function line(context, values, { x, y }, colour, weight) {
  context.strokeStyle = colour;
  context.lineWidth = weight;
  context.lineJoin = "round";
  context.beginPath();
  let open = false;
  values.forEach((value, at) => {
    if (!Number.isFinite(value)) return void (open = false);
    const place = [x(at / Math.max(1, values.length - 1)), y(value)];
    open ? context.lineTo(...place) : context.moveTo(...place);
    open = true;
  });
  context.stroke();
}

const minus = (text) => text.replace("-", "−");
// With as many decimals as the steps between numbers need.
const decimals = (step) => Math.max(0, Math.min(6, -Math.floor(Math.log10(step) + 1e-9)));
const number = (value, step) => minus((value || 0).toFixed(decimals(step)));
const money = (value, step = 1) =>
  minus(value.toLocaleString("en-US", { minimumFractionDigits: decimals(step), maximumFractionDigits: decimals(step) }));
const percent = (value, step = 0.001) => `${number(value * 100, step * 100)} %`;

function drawEquity(curves, dates) {
  return (context, width, height, colours) => {
    const scales = plane(context, width, height, colours, rangeOf(curves.equity, curves.compared), money, dates);
    line(context, curves.compared, scales, colours.text, 1.2);
    line(context, curves.equity, scales, colours.brand, 1.8);
  };
}

function drawDrawdown(curves, dates) {
  return (context, width, height, colours) => {
    const scales = plane(context, width, height, colours, rangeOf(curves.drawdown, [0]), percent, dates);
    line(context, curves.drawdown, scales, colours.bad, 1.6);
  };
}

function drawSkill(curves, dates) {
  return (context, width, height, colours) => {
    const scales = plane(context, width, height, colours, rangeOf(curves.skill, [0]), number, dates);
    const wide = Math.max(1, (width - MARGIN.left - MARGIN.right) / curves.skill.length - 0.5);
    curves.skill.forEach((value, at) => {
      if (!Number.isFinite(value)) return;
      context.fillStyle = value >= 0 ? colours.good : colours.bad;
      const top = Math.min(scales.y(value), scales.y(0));
      context.fillRect(scales.x(at / curves.skill.length), top, wide, Math.abs(scales.y(value) - scales.y(0)));
    });
  };
}

function drawReliability(curves) {
  return (context, width, height, colours) => {
    const said = rangeOf(curves.said);
    const low = curves.came_true.map((value, at) => value - 2 * curves.error[at]);
    const high = curves.came_true.map((value, at) => value + 2 * curves.error[at]);
    const scales = plane(context, width, height, colours, rangeOf(low, high, said), number, said.map((value) => `said ${value.toFixed(3)}`));
    const across = (value) => scales.x((value - said[0]) / (said[1] - said[0] || 1));
    context.setLineDash([4, 4]);
    line(context, said, scales, colours.text, 1);
    context.setLineDash([]);
    curves.said.forEach((value, at) => {
      context.strokeStyle = context.fillStyle = colours.brand;
      context.lineWidth = 1.2;
      context.beginPath();
      context.moveTo(across(value), scales.y(low[at]));
      context.lineTo(across(value), scales.y(high[at]));
      context.stroke();
      context.beginPath();
      context.arc(across(value), scales.y(curves.came_true[at]), 3, 0, 2 * Math.PI);
      context.fill();
    });
  };
}
