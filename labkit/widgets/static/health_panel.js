// The health panel: breaker ladder, request weight by lane, connections, loops, weather with its score, one red button.

const CONFIRM_WITHIN_MS = 3000;

function buildRung(row) {
  const story = h("span", { class: "labkit-rung-story" });
  const node = h(
    "li",
    { class: "labkit-rung", "data-rung": row.key },
    h("b", {}, row.label),
    h("span", { class: "labkit-rung-meaning" }, row.meaning),
    h("span", { class: "labkit-muted" }, `passes: ${row.permits}`),
    story,
  );
  return {
    node,
    update(next) {
      setAttribute(node, "data-here", next.here ? "yes" : "");
      setAttribute(node, "aria-current", next.here ? "true" : "false");
      setTone(node, next.tone);
      setText(story, next.story);
    },
  };
}

function buildLane(row) {
  const bar = h("i");
  const text = h("span", { class: "labkit-number labkit-muted" });
  const gauge = h("span", { class: "labkit-bar", role: "img" }, bar);
  return {
    node: h("li", { class: "labkit-lane" }, h("span", {}, row.label), gauge, text),
    update(next) {
      bar.style.width = `${next.share * 100}%`;
      setTone(bar, next.tone);
      setText(text, next.text);
      setAttribute(gauge, "aria-label", `${next.label}: ${Math.round(next.share * 100)} % used`);
    },
  };
}

function buildStream(feed, row) {
  const state = h("span");
  const heard = h("td", { class: "labkit-number" });
  const frames = h("td", { class: "labkit-number" });
  const troubles = h("td", { class: "labkit-troubles" });
  const node = h("tr", {}, h("th", { scope: "row" }, row.key), h("td", {}, state), heard, frames, troubles);
  return {
    node,
    update(next) {
      setText(state, next.cause || next.state);
      setTone(state, next.tone);
      setText(frames, next.frames);
      setText(troubles, next.troubles);
    },
    tick(next) {
      setText(heard, next.heard_ms === null ? "–" : durationText(feed.ageMs(next.heard_ms)));
    },
  };
}

function buildLoop(feed, row) {
  const runs = h("td", { class: "labkit-number" });
  const late = h("td", { class: "labkit-troubles" });
  const next = h("td", { class: "labkit-number" });
  return {
    node: h("tr", {}, h("th", { scope: "row" }, row.key), runs, next, late),
    update(line) {
      setText(runs, line.runs);
      setText(late, line.late);
      setTone(late, line.tone);
    },
    tick(line) {
      const left = line.next_ms === null ? null : Math.max(0, line.next_ms - feed.marketNow()) / (feed.clock.speed || 1);
      setText(next, left === null ? "–" : `in ${durationText(left)}`);
    },
  };
}

function buildStrike(row) {
  const times = h("span", { class: "labkit-number" });
  return {
    node: h("li", { class: "labkit-chip", "data-strike": row.key }, h("b", {}, row.key), times),
    update(next) {
      setText(times, next.times);
    },
  };
}

const rowTable = (label, titles, body) =>
  h(
    "table",
    { class: "labkit-table", "aria-label": label },
    h("thead", {}, h("tr", {}, ...titles.map(([text, name]) => h("th", { scope: "col", class: name }, text)))),
    body,
  );

export default widgetOf((feed, el) => {
  const header = buildHeader(feed, "Health and weather");
  const ladder = h("ol", { class: "labkit-ladder", "aria-label": "Circuit breaker" });
  const lanes = h("ul", { class: "labkit-lanes", "aria-label": "Request weight" });
  const streams = h("tbody");
  const loops = h("tbody");
  const weather = h("b", { class: "labkit-weather-now" });
  const choices = h("div", { class: "labkit-choices", role: "group", "aria-label": "Weather" });
  const clear = h("button", { type: "button", class: "labkit-button" }, "Fair weather");
  const strikes = h("ul", { class: "labkit-chips", "aria-label": "Faults that struck" });
  const score = h("div", { class: "labkit-account", "aria-label": "Score" });
  const stamp = h("div", { class: "labkit-stamp" });
  const message = h("div", { class: "labkit-message", role: "status", "aria-live": "polite" });
  const red = h("button", { type: "button", class: "labkit-button labkit-red" });
  const resume = h("button", { type: "button", class: "labkit-button" }, "Allow new entries");
  const root = h(
    "div",
    { class: "labkit labkit-health" },
    header.node,
    h("div", { class: "labkit-toolbar" }, message, resume, red),
    h(
      "div",
      { class: "labkit-columns" },
      h(
        "div",
        {},
        h("h4", {}, "Circuit breaker"),
        ladder,
        h("h4", {}, "Request weight this minute"),
        lanes,
      ),
      h(
        "div",
        {},
        h("h4", {}, "Connections"),
        h("div", { class: "labkit-scroll" }, rowTable("Connections", [["Stream", ""], ["State", ""], ["Heard", "labkit-number"], ["Frames", "labkit-number"], ["", ""]], streams)),
        h("h4", {}, "Loops"),
        h("div", { class: "labkit-scroll" }, rowTable("Loops", [["Loop", ""], ["Runs", "labkit-number"], ["Next", "labkit-number"], ["", ""]], loops)),
      ),
    ),
    h("h4", {}, "Weather of the paper exchange: ", weather),
    choices,
    score,
    strikes,
    stamp,
  );
  el.append(root);

  function say(text, tone) {
    setText(message, text);
    setTone(message, tone);
  }
  const ask = (content, done) => feed.wish(content, (error) => say(error || done, error ? "bad" : "good"), (words) => say(words, "warn"));

  function buildChoice(row) {
    const node = h("button", { type: "button", class: "labkit-button", title: row.description, "data-weather": row.key }, row.key);
    node.addEventListener("click", () => ask({ wish: "weather", name: row.key }, `${row.key}: begun`));
    return {
      node,
      update(next) {
        setAttribute(node, "aria-pressed", String(next.here));
      },
    };
  }
  clear.addEventListener("click", () => ask({ wish: "clear_weather" }, "fair weather again"));
  resume.addEventListener("click", () => ask({ wish: "resume_entries" }, "new entries are allowed"));

  let armed = false;
  let timer;
  function arm(next) {
    armed = next;
    clearTimeout(timer);
    const open = feed.sections?.open_positions ?? 0;
    setText(red, armed ? `Really close all ${open}?` : "Flatten");
    setAttribute(red, "aria-label", armed ? "Really close everything? Press again" : "Close every position and pause new entries");
    setAttribute(red, "data-phase", armed ? "armed" : "idle");
    if (armed) timer = setTimeout(() => arm(false), CONFIRM_WITHIN_MS);
  }
  red.addEventListener("click", () => {
    if (!armed) return arm(true);
    arm(false);
    ask({ wish: "flatten" }, "closing everything; new entries are paused");
  });
  red.addEventListener("keydown", (event) => event.key === "Escape" && arm(false));
  arm(false);

  let streamRows = new Map();
  let loopRows = new Map();
  return showFeed(
    feed,
    (sections) => {
      header.paint(sections);
      keyed(ladder, sections.rungs, buildRung);
      keyed(lanes, sections.lanes, buildLane);
      streamRows = keyed(streams, sections.streams, (row) => buildStream(feed, row));
      loopRows = keyed(loops, sections.loops, (row) => buildLoop(feed, row));
      setText(weather, sections.weather);
      keyed(choices, sections.weathers, buildChoice);
      if (clear.parentNode !== choices) choices.append(clear);
      keyed(strikes, sections.strikes, buildStrike);
      keyed(score, sections.score, buildFigure);
      setText(stamp, sections.stamp.map((each) => `${each.label} ${each.text}`).join(" · "));
      resume.hidden = !sections.header.entries_paused;
    },
    () => {
      header.tick(root);
      for (const entry of streamRows.values()) entry.tick(entry.row);
      for (const entry of loopRows.values()) entry.tick(entry.row);
    },
  );
});
