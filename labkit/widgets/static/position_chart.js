// The price chart of one position: candles, the live price, one line per level, marks for fills.
// Stop and target can be dragged, or moved with the arrow keys and confirmed with Enter.

const SVG = "http://www.w3.org/2000/svg";
const CHART_HEIGHT = 350;
const PLOT = { left: 8, right: 134, top: 12, bottom: 22 };
const TAG_HEIGHT = 18;
const MINUTE = 60000;
const SHORT_LABELS = { trailing: "trail", liquidation: "liq." };
const MOVABLE_FROM = 3; // pixels a pointer must travel before it drags

function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const place = (node, attributes) => {
  for (const [name, value] of Object.entries(attributes)) setAttribute(node, name, String(value));
};

// Round numbers, about `count` of them, within [low, high].
function roundSteps(low, high, count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw) ?? raw;
  const steps = [];
  for (let at = Math.ceil(low / step) * step; at <= high; at += step) steps.push(at);
  return steps;
}

// Moves tags apart so that none covers another; keeps their order, within [top, bottom].
function spread(tags, top, bottom) {
  tags.sort((one, other) => one.y - other.y);
  for (let i = 0; i < tags.length; i++) {
    tags[i].y = Math.max(tags[i].y, i ? tags[i - 1].y + TAG_HEIGHT : top);
  }
  for (let i = tags.length - 1; i >= 0; i--) {
    tags[i].y = Math.min(tags[i].y, i < tags.length - 1 ? tags[i + 1].y - TAG_HEIGHT : bottom);
  }
}

// `onMove(key, price, answered)` asks for a confirmed new price, `onDraft(key, price or null)` tells of one being chosen.
function buildChart(feed, onMove, onDraft) {
  const grid = svg("g", { class: "labkit-chart-grid" });
  const zones = svg("g");
  const gain = svg("rect", { class: "labkit-chart-gain" });
  const risk = svg("rect", { class: "labkit-chart-risk" });
  zones.append(gain, risk);
  const wicks = { up: svg("path", { class: "labkit-chart-up" }), down: svg("path", { class: "labkit-chart-down" }) };
  const bodies = { up: svg("path", { class: "labkit-chart-up" }), down: svg("path", { class: "labkit-chart-down" }) };
  const trailLine = svg("polyline", { class: "labkit-chart-trail" });
  const dot = svg("circle", { class: "labkit-chart-dot", r: 3.5 });
  const lines = svg("g");
  const marks = svg("g");
  const tags = svg("g");
  const liveTag = buildTag("now", false);
  const waiting = svg("text", { class: "labkit-chart-waiting", "text-anchor": "middle" }, "Candles are on their way…");
  const node = svg(
    "svg",
    { class: "labkit-chart", height: CHART_HEIGHT, role: "group", "aria-label": "Price chart" },
    grid, zones, wicks.up, wicks.down, bodies.up, bodies.down, trailLine, lines, dot, marks, tags, waiting,
  );
  const box = h("div", { class: "labkit-chart-box" }, node);

  let shown = null; // the sections last painted
  let trail = [];
  let trailOf = "";
  let draft = null; // { key, price, scale }: a level on its way
  let width = 0;
  const levelNodes = new Map();

  function buildTag(key, movable) {
    const back = svg("rect", { class: "labkit-chart-tag-back", rx: 4, height: TAG_HEIGHT - 2 });
    const label = svg("text", { class: "labkit-chart-tag-label" });
    const price = svg("text", { class: "labkit-chart-tag-price", "text-anchor": "end" });
    const tag = svg("g", { class: `labkit-chart-tag${movable ? " labkit-chart-movable" : ""}`, "data-level": key }, back, label, price);
    return { node: tag, back, label, price };
  }

  // Prices ↔ pixels. While a level is being dragged the scale stands still.
  function scaleOf({ candles, levels, live, fills }) {
    const times = candles.map((candle) => candle[0]);
    const end = Math.max(live?.time_ms ?? 0, (times[times.length - 1] ?? 0) + MINUTE, ...fills.map((fill) => fill.time_ms));
    const start = Math.min(times[0] ?? end - 15 * MINUTE, ...fills.map((fill) => fill.time_ms));
    const prices = candles.flatMap((candle) => [candle[2], candle[3]]);
    prices.push(...levels.filter((level) => level.key !== "liquidation").map((level) => level.price));
    if (live) prices.push(live.price);
    let low = Math.min(...prices);
    let high = Math.max(...prices);
    const air = (high - low || high * 0.001) * 0.12;
    low -= air;
    high += air;
    const plotWidth = Math.max(50, width - PLOT.left - PLOT.right);
    const plotHeight = CHART_HEIGHT - PLOT.top - PLOT.bottom;
    const span = (end - start) * 1.03;
    return {
      low, high, start, end: start + span,
      x: (time) => PLOT.left + ((time - start) / span) * plotWidth,
      y: (price) => PLOT.top + ((high - price) / (high - low)) * plotHeight,
      price: (y) => high - ((y - PLOT.top) / plotHeight) * (high - low),
      minute: (MINUTE / span) * plotWidth,
      right: PLOT.left + plotWidth,
      bottom: PLOT.top + plotHeight,
    };
  }

  const snapped = (price) => {
    const { tick, places } = shown.edit;
    return Number((Math.round(price / tick) * tick).toFixed(places));
  };
  const written = (price) => thousands(price, shown.edit.places);

  function setDraft(key, price, scale) {
    draft = price === null ? null : { key, price, scale };
    onDraft(key, price);
    repaint();
  }

  function settle(key) {
    if (draft?.key === key && draft.sent) draft = null;
    repaint();
  }

  function confirm() {
    if (!draft) return;
    const { key, price } = draft;
    const before = shown.levels.find((level) => level.key === key)?.price;
    // The line stays where it was put until the lab has answered.
    draft = { ...draft, sent: true };
    if (price === before) return cancel();
    onMove(key, price, () => settle(key));
  }
  const cancel = () => draft && setDraft(draft.key, null);

  function dragStart(key, event) {
    if (event.button !== 0 || shown.edit.closing || draft?.sent) return;
    const target = event.currentTarget;
    const from = event.clientY;
    const scale = draft?.scale ?? scaleOf(shown);
    const before = draft?.price ?? shown.levels.find((level) => level.key === key).price;
    let moved = false;
    target.setPointerCapture(event.pointerId);
    const move = (next) => {
      if (!moved && Math.abs(next.clientY - from) < MOVABLE_FROM) return;
      moved = true;
      const ratio = CHART_HEIGHT / node.getBoundingClientRect().height;
      const y = Math.min(scale.bottom, Math.max(PLOT.top, scale.y(before) + (next.clientY - from) * ratio));
      setDraft(key, snapped(scale.price(y)), scale);
    };
    const end = (next) => {
      target.removeEventListener("pointermove", move);
      target.removeEventListener("pointerup", end);
      target.removeEventListener("pointercancel", end);
      if (!moved) return;
      if (next.type === "pointerup") confirm();
      else cancel();
    };
    target.addEventListener("pointermove", move);
    target.addEventListener("pointerup", end);
    target.addEventListener("pointercancel", end);
  }

  function keyDown(key, event) {
    if (draft?.sent) return;
    const direction = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (direction && !shown.edit.closing) {
      event.preventDefault();
      const step = shown.edit.key_step * (event.shiftKey ? 10 : 1) * direction;
      const price = draft?.key === key ? draft.price : shown.levels.find((level) => level.key === key).price;
      setDraft(key, snapped(price + step), draft?.scale);
    } else if (event.key === "Enter" && draft) {
      event.preventDefault();
      confirm();
    } else if (event.key === "Escape" && draft) {
      cancel();
    }
  }

  function buildLevel(level) {
    const line = svg("line", { class: "labkit-chart-level", "data-level": level.key });
    const grip = svg("line", { class: "labkit-chart-grip" });
    const tag = buildTag(level.key, level.movable);
    lines.append(line);
    tags.append(tag.node);
    if (level.movable) {
      lines.append(grip);
      place(tag.node, { tabindex: 0, role: "slider", "aria-orientation": "vertical", "aria-label": `${level.label} price` });
      for (const handle of [tag.node, grip]) handle.addEventListener("pointerdown", (event) => dragStart(level.key, event));
      tag.node.addEventListener("keydown", (event) => keyDown(level.key, event));
      tag.node.addEventListener("blur", () => draft && !draft.sent && draft.key === level.key && !draft.scale && cancel());
      tag.node.append(svg("title", {}, "Drag it, or move it with the arrow keys and confirm with Enter"));
    }
    const entry = { line, grip, tag };
    levelNodes.set(level.key, entry);
    return entry;
  }

  function paintCandles(candles, scale) {
    waiting.style.display = candles.length ? "none" : "";
    place(waiting, { x: (PLOT.left + scale.right) / 2, y: CHART_HEIGHT / 2 });
    const half = Math.max(0.6, Math.min(4, scale.minute * 0.34));
    const paths = { up: ["", ""], down: ["", ""] };
    for (const [time, open, high, low, close] of candles) {
      const x = scale.x(time + MINUTE / 2).toFixed(1);
      const path = paths[close >= open ? "up" : "down"];
      const top = scale.y(Math.max(open, close));
      const height = Math.max(0.8, scale.y(Math.min(open, close)) - top);
      path[0] += `M${x} ${scale.y(high).toFixed(1)}V${scale.y(low).toFixed(1)}`;
      path[1] += `M${(x - half).toFixed(1)} ${top.toFixed(1)}h${(2 * half).toFixed(1)}v${height.toFixed(1)}h${(-2 * half).toFixed(1)}z`;
    }
    for (const way of ["up", "down"]) {
      setAttribute(wicks[way], "d", paths[way][0]);
      setAttribute(bodies[way], "d", paths[way][1]);
    }
  }

  function paintLive(candles, live, scale) {
    const last = candles[candles.length - 1];
    const from = last ? last[0] + MINUTE : -Infinity;
    trail = trail.filter((point) => point[0] >= from);
    const points = last ? [[from, last[4]], ...trail] : trail;
    setAttribute(trailLine, "points", points.map(([time, price]) => `${scale.x(time).toFixed(1)},${scale.y(price).toFixed(1)}`).join(" "));
    dot.style.display = live ? "" : "none";
    if (live) place(dot, { cx: scale.x(live.time_ms).toFixed(1), cy: scale.y(live.price).toFixed(1) });
  }

  function paintGrid(scale) {
    const prices = roundSteps(scale.low, scale.high, 5);
    const minutes = [5, 10, 15, 30, 60, 120].find((step) => scale.minute * step > 64) ?? 240;
    const times = [];
    const step = minutes * MINUTE;
    for (let at = Math.ceil(scale.start / step) * step; at < scale.end; at += step) times.push(at);
    const rows = prices.map((price) => ({ key: `p${price}`, price }));
    const columns = times.map((time) => ({ key: `t${time}`, time }));
    const nodes = keyed(grid, [...rows, ...columns], (row) => {
      const line = svg("line");
      const text = svg("text", row.time ? { "text-anchor": "middle" } : {});
      return { node: svg("g", {}, line, text), line, text, update() {} };
    });
    for (const { line, text, row } of nodes.values()) {
      if (row.time) {
        const x = scale.x(row.time).toFixed(1);
        place(line, { x1: x, x2: x, y1: PLOT.top, y2: scale.bottom });
        place(text, { x, y: CHART_HEIGHT - 6 });
        setText(text, clockText(row.time).slice(0, 5));
        text.style.display = x < 24 || x > scale.right - 14 ? "none" : "";
      } else {
        const y = scale.y(row.price).toFixed(1);
        place(line, { x1: PLOT.left, x2: scale.right, y1: y, y2: y });
        place(text, { x: PLOT.left + 2, y: Number(y) - 3 });
        setText(text, written(row.price));
      }
    }
  }

  function paintZones(levels, scale) {
    const price = (key) => (draft?.key === key ? draft.price : levels.find((level) => level.key === key)?.price);
    const opened = Math.max(PLOT.left, scale.x(shown.fills[0]?.time_ms ?? scale.start));
    for (const [zone, key] of [[gain, "target"], [risk, "stop"]]) {
      const [entry, exit] = [price("entry"), price(key)];
      zone.style.display = entry === undefined || exit === undefined ? "none" : "";
      if (entry === undefined || exit === undefined) continue;
      const top = Math.max(PLOT.top, scale.y(Math.max(entry, exit)));
      place(zone, { x: opened, y: top, width: Math.max(0, scale.right - opened), height: Math.max(0, Math.min(scale.bottom, scale.y(Math.min(entry, exit))) - top) });
    }
  }

  function paintTag(tag, { y, label, text, tone, away }, scale) {
    const left = scale.right + 5;
    const right = width - 3;
    place(tag.back, { x: left, y: y - TAG_HEIGHT / 2 + 1, width: right - left });
    place(tag.label, { x: left + 6, y: y + 4 });
    place(tag.price, { x: right - 6, y: y + 4 });
    setText(tag.label, label);
    setText(tag.price, text);
    setTone(tag.node, tone);
    setAttribute(tag.node, "data-away", away ?? "");
  }

  function paintLevels(levels, live, scale) {
    const wanted = new Set(levels.map((level) => level.key));
    for (const [key, entry] of levelNodes) {
      if (wanted.has(key)) continue;
      [entry.line, entry.grip, entry.tag.node].forEach((each) => each.remove());
      levelNodes.delete(key);
    }
    const tagged = [];
    for (const level of levels) {
      const entry = levelNodes.get(level.key) ?? buildLevel(level);
      const drafted = draft?.key === level.key;
      const price = drafted ? draft.price : level.price;
      const y = scale.y(price);
      const within = y >= PLOT.top && y <= scale.bottom;
      entry.line.style.display = within ? "" : "none";
      place(entry.line, { x1: PLOT.left, x2: scale.right + 5, y1: y.toFixed(1), y2: y.toFixed(1) });
      setTone(entry.line, level.tone);
      setAttribute(entry.line, "data-draft", drafted ? "yes" : "");
      setAttribute(entry.tag.node, "data-draft", drafted ? "yes" : "");
      if (level.movable) {
        place(entry.grip, { x1: PLOT.left, x2: scale.right, y1: y.toFixed(1), y2: y.toFixed(1) });
        place(entry.tag.node, {
          "aria-valuenow": price,
          "aria-valuetext": `${written(price)}${drafted ? ", Enter confirms, Escape leaves it" : ""}`,
        });
      }
      const arrow = y < PLOT.top ? "↑ " : y > scale.bottom ? "↓ " : "";
      tagged.push({
        tag: entry.tag,
        y: Math.min(scale.bottom, Math.max(PLOT.top, y)),
        label: arrow + (SHORT_LABELS[level.key] ?? level.label),
        text: drafted ? written(price) : level.text,
        tone: level.tone,
        away: arrow && "yes",
      });
    }
    liveTag.node.style.display = live ? "" : "none";
    if (live) {
      if (!liveTag.node.parentNode) tags.append(liveTag.node);
      tagged.push({ tag: liveTag, y: scale.y(live.price), label: "now", text: live.text, tone: "now" });
    }
    spread(tagged, PLOT.top, scale.bottom);
    for (const each of tagged) paintTag(each.tag, each, scale);
  }

  function paintMarks(fills, scale) {
    const nodes = keyed(marks, fills, (fill) => {
      const mark = svg("path", { class: "labkit-chart-fill", "data-fill": fill.buy ? "buy" : "sell" }, svg("title", {}, fill.text));
      return { node: mark, update() {} };
    });
    for (const { node: mark, row } of nodes.values()) {
      const x = scale.x(row.time_ms).toFixed(1);
      const y = scale.y(row.price);
      const tip = row.buy ? 1 : -1;
      setAttribute(mark, "d", `M${x} ${(y + 2 * tip).toFixed(1)}l-5.5 ${9 * tip}h11z`);
      setAttribute(mark, "aria-label", row.text);
    }
  }

  function repaint() {
    if (!shown?.edit || width < 80) return;
    setAttribute(node, "viewBox", `0 0 ${width} ${CHART_HEIGHT}`);
    const scale = draft?.scale ?? scaleOf(shown);
    paintGrid(scale);
    paintZones(shown.levels, scale);
    paintCandles(shown.candles, scale);
    paintLive(shown.candles, shown.live, scale);
    paintLevels(shown.levels, shown.live, scale);
    paintMarks(shown.fills, scale);
  }

  const observer = new ResizeObserver(() => {
    width = Math.round(box.clientWidth);
    repaint();
  });
  observer.observe(box);

  return {
    node: box,
    paint(sections) {
      if (trailOf !== sections.chosen) {
        trail = [];
        trailOf = sections.chosen;
        draft = null;
      }
      shown = sections;
      const { live } = sections;
      if (live && trail[trail.length - 1]?.[0] !== live.time_ms) trail.push([live.time_ms, live.price]);
      if (trail.length > 600) trail.splice(0, trail.length - 600);
      repaint();
    },
    close: () => observer.disconnect(),
  };
}
