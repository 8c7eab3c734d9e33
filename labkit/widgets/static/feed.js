// What both widgets share: receiving frames, telling how old they are, and changing only the text that differs.
// One feed per widget model; every place the widget is shown reads the same feed.

const STALE_AFTER_MS = 2200; // without any message; a living kernel sends one every second at least
const ACKNOWLEDGE_EVERY_MS = 4000;
const RESYNC_EVERY_MS = 1500;
const HISTORY_POINTS = 90;
const SILENT_AFTER_MS = 2000; // without an answer to a wish
const KERNEL_IS_SILENT = "The kernel has not answered yet: a cell may be keeping it busy.";

function openFeed(model) {
  const feed = {
    sections: null,
    clock: { time_ms: 0, speed: 0 },
    trouble: "", // why there is nothing new, if the kernel could say
    history: new Map(), // symbol -> last mid prices, for the small charts
    painters: new Set(),
    answers: new Map(), // request -> what to do with its answer
  };
  const openedAt = performance.now();
  let sequence = -1;
  let heardAt = -Infinity;
  let acknowledgedAt = -Infinity;
  let resyncAt = -Infinity;
  let scheduled = false;
  let requests = 0;

  feed.silenceMs = () => performance.now() - heardAt;
  feed.isStale = () => !feed.sections?.header.final && performance.now() - Math.max(heardAt, openedAt) > STALE_AFTER_MS;
  // Market time now, counted on from the last frame: an age keeps growing when the kernel has died.
  feed.marketNow = () => feed.clock.time_ms + (Number.isFinite(heardAt) ? feed.silenceMs() : 0) * feed.clock.speed;
  // Milliseconds of the reader's own time since that moment of the market.
  feed.ageMs = (timeMs) => Math.max(0, feed.marketNow() - timeMs) / (feed.clock.speed || 1);
  feed.isHeard = () => Number.isFinite(heardAt);

  function resync() {
    if (performance.now() - resyncAt < RESYNC_EVERY_MS) return;
    resyncAt = performance.now();
    model.send({ kind: "resync" });
  }

  function accepted(frame) {
    sequence = frame.sequence;
    feed.clock = frame.clock;
    feed.trouble = "";
    heardAt = performance.now();
    if (heardAt - acknowledgedAt > ACKNOWLEDGE_EVERY_MS) {
      acknowledgedAt = heardAt;
      model.send({ kind: "seen", sequence });
    }
    if (!scheduled) {
      scheduled = true;
      requestAnimationFrame(() => {
        scheduled = false;
        feed.painters.forEach((paint) => paint());
      });
    }
  }

  function remember(lines) {
    for (const line of lines ?? []) {
      if (line.mid === undefined || line.mid === null) continue;
      const points = feed.history.get(line.key) ?? [];
      if (points[points.length - 1] !== line.mid) points.push(line.mid);
      if (points.length > HISTORY_POINTS) points.shift();
      feed.history.set(line.key, points);
    }
  }

  function takeKeyframe(isNew) {
    const frame = model.get("frame");
    if (!frame?.view) return;
    feed.sections = frame.view;
    remember(frame.view.symbols);
    accepted(frame);
    // A stored keyframe says nothing about whether anybody is still there.
    if (!isNew) heardAt = -Infinity;
  }

  function takePatch(patch) {
    if (feed.sections === null || patch.sequence !== sequence + 1) {
      heardAt = performance.now();
      return resync();
    }
    const sections = { ...feed.sections };
    for (const [name, change] of Object.entries(patch.changes)) {
      if ("value" in change) {
        sections[name] = change.value;
        continue;
      }
      const rows = new Map((sections[name] ?? []).map((row) => [row.key, row]));
      change.rows.forEach((row) => rows.set(row.key, { ...rows.get(row.key), ...row }));
      sections[name] = (change.order ?? [...rows.keys()]).map((key) => rows.get(key));
      remember(change.rows);
    }
    feed.sections = sections;
    accepted(patch);
  }

  // Ask the lab for something; `onAnswer` gets "" or what went wrong, `onSilence` what `watchForSilence` has to say.
  feed.wish = (content, onAnswer, onSilence) => {
    const request = `${Date.now()}-${++requests}`;
    const silence = watchForSilence(onSilence);
    silence.asked();
    feed.answers.set(request, (error) => {
      silence.answered();
      onAnswer(error);
    });
    model.send({ kind: "wish", request, ...content });
  };

  const onFrame = () => takeKeyframe(true);
  const onMessage = (message) => {
    if (message.kind === "patch") takePatch(message);
    if (message.kind === "trouble") feed.trouble = message.text;
    if (message.kind === "answer") {
      feed.answers.get(message.request)?.(message.error);
      feed.answers.delete(message.request);
    }
  };
  model.on("change:frame", onFrame);
  model.on("msg:custom", onMessage);
  takeKeyframe(false);
  resync();
  const watch = setInterval(() => feed.isStale() && resync(), RESYNC_EVERY_MS);
  feed.close = () => {
    clearInterval(watch);
    model.off("change:frame", onFrame);
    model.off("msg:custom", onMessage);
  };
  return feed;
}

// For what is asked of the kernel: `onSilence` gets the words for one that has not answered so far, and "" once it has.
function watchForSilence(onSilence) {
  let timer;
  let silent = false;
  return {
    asked() {
      clearTimeout(timer);
      timer = setTimeout(() => {
        silent = true;
        onSilence(KERNEL_IS_SILENT);
      }, SILENT_AFTER_MS);
    },
    answered() {
      clearTimeout(timer);
      if (silent) onSilence("");
      silent = false;
    },
  };
}

// Shows `feed` in a place: `paint` when something arrived, `tick` four times a second for ages. Returns how to end it.
function showFeed(feed, paint, tick) {
  const everything = () => {
    if (feed.sections === null) return;
    paint(feed.sections);
    tick();
  };
  feed.painters.add(everything);
  everything();
  const timer = setInterval(() => feed.sections !== null && tick(), 250);
  return () => {
    clearInterval(timer);
    feed.painters.delete(everything);
  };
}

// The widget protocol: one feed per model, any number of views of it.
function widgetOf(build) {
  return () => {
    let feed;
    return {
      initialize({ model }) {
        feed = openFeed(model);
        return () => feed.close();
      },
      render({ el }) {
        return build(feed, el);
      },
    };
  };
}

function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function setText(node, text) {
  if (node.firstChild?.nodeType === Node.TEXT_NODE && node.childNodes.length === 1) {
    if (node.firstChild.data !== text) node.firstChild.data = text;
  } else {
    node.textContent = text;
  }
}

function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

const setTone = (node, tone) => setAttribute(node, "data-tone", tone ?? "");

const MOVE_SHOWN_MS = 1100; // as long as the animation lasts

// Text that shows for a moment which way its number went; a number that never rests shows it once a second, not always.
function setNumber(node, text, value) {
  const before = node.labkitValue;
  node.labkitValue = value;
  setText(node, text);
  if (before === undefined || before === null || value === null || before === value) return;
  const now = performance.now();
  if (now - (node.labkitMovedAt ?? -Infinity) < MOVE_SHOWN_MS) return;
  node.labkitMovedAt = now;
  // Two names for one animation: a change of the name begins it again without a new layout of the page.
  node.labkitTurn = !node.labkitTurn;
  setAttribute(node, "data-moved", `${value > before ? "up" : "down"}${node.labkitTurn ? "" : "-again"}`);
}

const numberOf = (text) => {
  const value = Number.parseFloat(text.replaceAll(",", "").replace("−", "-"));
  return Number.isFinite(value) ? value : null;
};

// Keeps one child of `parent` per row, by key: focus, selection and animations survive an update.
function keyed(parent, rows, make) {
  const nodes = (parent.labkitNodes ??= new Map());
  const wanted = new Set(rows.map((row) => row.key));
  for (const [key, entry] of nodes) {
    if (wanted.has(key)) continue;
    entry.node.remove();
    nodes.delete(key);
  }
  let previous = null;
  for (const row of rows) {
    let entry = nodes.get(row.key);
    if (!entry) {
      entry = make(row);
      nodes.set(row.key, entry);
    }
    const place = previous ? previous.nextSibling : parent.firstChild;
    if (entry.node !== place) parent.insertBefore(entry.node, place);
    if (entry.row !== row) {
      entry.row = row;
      entry.update(row);
    }
    previous = entry.node;
  }
  return nodes;
}

const pad = (number) => String(number).padStart(2, "0");

function clockText(timeMs) {
  const moment = new Date(timeMs);
  return `${pad(moment.getUTCHours())}:${pad(moment.getUTCMinutes())}:${pad(moment.getUTCSeconds())}`;
}

const dateText = (timeMs) => new Date(timeMs).toISOString().slice(0, 10);

// Seconds below a minute, then minutes, then hours.
function durationText(milliseconds) {
  const seconds = milliseconds / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} m ${pad(Math.floor(seconds % 60))} s`;
  return `${Math.floor(seconds / 3600)} h ${pad(Math.floor((seconds % 3600) / 60))} m`;
}

// The line on top of both widgets: what market this is, how real, how fast, how alive.
function buildHeader(feed, title) {
  const market = h("span", { class: "labkit-badge", title: "Whose prices these are" });
  const pace = h("span", { class: "labkit-badge labkit-badge-pace" });
  const state = h("span", { class: "labkit-state", role: "status" });
  const stale = h("span", { class: "labkit-stale", role: "alert", hidden: "" });
  const date = h("span", { class: "labkit-date" });
  const time = h("span", { class: "labkit-time" });
  const disclosure = h("div", { class: "labkit-disclosure" });
  const failure = h("div", { class: "labkit-failure", role: "alert", hidden: "" });
  const paused = h("div", { class: "labkit-paused", role: "status", hidden: "" });
  const clock = h("span", { class: "labkit-clock", title: "Market time, UTC" }, date, time, h("span", {}, "UTC"));
  const line = h("div", { class: "labkit-head" }, h("span", { class: "labkit-title" }, title), market, pace, state, stale, clock);
  return {
    node: h("header", {}, line, failure, disclosure, paused),
    paint({ header }) {
      setText(market, `${header.market} market`);
      setText(pace, header.pace);
      pace.hidden = !header.pace;
      setText(state, header.state);
      setTone(state, header.state_tone);
      setAttribute(state, "title", header.state_detail);
      setText(failure, header.state_detail);
      failure.hidden = header.state !== "failed";
      setText(disclosure, header.disclosure);
      setText(paused, `New entries are paused: ${header.entries_paused}`);
      paused.hidden = !header.entries_paused;
    },
    tick(root) {
      const isStale = feed.isStale();
      root.classList.toggle("labkit-is-stale", isStale);
      stale.hidden = !isStale;
      if (isStale) {
        const since = feed.isHeard() ? `no news for ${durationText(feed.silenceMs())}` : "the kernel does not answer";
        setText(stale, `STALE · ${since}${feed.trouble && ` · ${feed.trouble}`}`);
      }
      clock.hidden = feed.clock.time_ms === 0; // the market has not begun
      const now = feed.clock.time_ms + Math.min(feed.isHeard() ? feed.silenceMs() : 0, 1000) * feed.clock.speed;
      setText(date, dateText(now));
      setText(time, clockText(now));
    },
  };
}

// Where the price stands between stop (left) and target (right).
function buildBracket() {
  const entry = h("i", { class: "labkit-bracket-entry" });
  const fill = h("i", { class: "labkit-bracket-fill" });
  const price = h("i", { class: "labkit-bracket-price" });
  const node = h("span", { class: "labkit-bracket", role: "img" }, fill, entry, price);
  return {
    node,
    update(row) {
      node.hidden = row.progress === null;
      if (row.progress === null) return;
      const from = row.entry_mark ?? 0;
      entry.style.left = `${from * 100}%`;
      price.style.left = `${row.progress * 100}%`;
      fill.style.left = `${Math.min(from, row.progress) * 100}%`;
      fill.style.width = `${Math.abs(row.progress - from) * 100}%`;
      setTone(fill, row.progress >= from ? "good" : "bad");
      const trailing = row.trailing === "–" ? "" : `, trailing stop ${row.trailing}`;
      setAttribute(node, "title", `stop ${row.stop}${trailing} · entry ${row.entry} · target ${row.target}`);
      setAttribute(node, "aria-label", `${Math.round(row.progress * 100)} % of the way from stop to target`);
    },
  };
}

function buildFigure(row) {
  const text = h("span", { class: "labkit-figure-text" });
  return {
    node: h("div", { class: "labkit-figure", title: row.title, "data-figure": row.key }, h("span", { class: "labkit-figure-label" }, row.label), text),
    update(next) {
      setText(text, next.text);
      setTone(text, next.tone);
    },
  };
}
