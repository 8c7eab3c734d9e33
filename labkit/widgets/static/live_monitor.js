// The live monitor: header, account, health, symbols, positions, decisions, events.

const SVG = "http://www.w3.org/2000/svg";

function buildSparkline(feed, key) {
  const line = document.createElementNS(SVG, "polyline");
  const node = document.createElementNS(SVG, "svg");
  node.setAttribute("class", "labkit-spark");
  node.setAttribute("viewBox", "0 0 90 20");
  node.setAttribute("preserveAspectRatio", "none");
  node.setAttribute("aria-hidden", "true");
  node.append(line);
  return {
    node,
    update() {
      const points = feed.history.get(key) ?? [];
      if (points.length < 2) return;
      const low = Math.min(...points);
      const span = Math.max(...points) - low || 1;
      const step = 90 / (points.length - 1);
      line.setAttribute("points", points.map((p, i) => `${(i * step).toFixed(1)},${(18.5 - ((p - low) / span) * 17).toFixed(1)}`).join(" "));
      setAttribute(node, "data-tone", points[points.length - 1] >= points[0] ? "good" : "bad");
    },
  };
}

function buildSymbolRow(feed, line) {
  const cell = (name) => h("td", { class: `labkit-number labkit-${name}`, "data-cell": name });
  const bid = cell("bid");
  const ask = cell("ask");
  const spread = cell("spread");
  const mark = cell("mark");
  const funding = cell("funding");
  const change = cell("change");
  const age = cell("age");
  const bar = h("i");
  const liquidity = h("span", { class: "labkit-bar", role: "img" }, bar);
  const spark = buildSparkline(feed, line.key);
  const node = h(
    "tr",
    { "data-symbol": line.key },
    h("th", { scope: "row" }, line.key),
    h("td", { class: "labkit-spark-cell" }, spark.node),
    bid,
    ask,
    spread,
    mark,
    change,
    funding,
    h("td", { class: "labkit-liquidity" }, liquidity),
    age,
  );
  return {
    node,
    update(row) {
      setNumber(bid, row.bid, numberOf(row.bid));
      setNumber(ask, row.ask, numberOf(row.ask));
      setText(spread, row.spread);
      setText(mark, row.mark);
      setText(change, row.change);
      setTone(change, row.change_tone);
      setText(funding, row.funding);
      setTone(funding, row.funding_tone);
      bar.style.width = `${row.liquidity * 100}%`;
      setAttribute(liquidity, "aria-label", `liquidity ${Math.round(row.liquidity * 100)} %`);
      setAttribute(liquidity, "title", `liquidity score ${row.liquidity.toFixed(2)}`);
      setAttribute(node, "data-problem", row.problem ? "yes" : "");
      setAttribute(age, "title", row.problem || "Time since the last quote, in your own seconds");
      spark.update();
    },
    tick(row) {
      setText(age, row.quoted_ms === null ? "–" : durationText(feed.ageMs(row.quoted_ms)));
      if (row.next_funding_ms !== null) {
        const left = Math.max(0, row.next_funding_ms - feed.marketNow());
        setAttribute(funding, "title", `next funding in ${durationText(left)} of market time`);
      }
    },
  };
}

function buildPositionRow(feed, line) {
  const side = h("span", { class: "labkit-side" });
  const quantity = h("span", { class: "labkit-number labkit-muted" });
  const bracket = buildBracket();
  const pnl = h("span", { class: "labkit-number labkit-pnl" });
  const name = h("b", {}, line.key);
  return {
    node: h("li", { class: "labkit-position", "data-position": line.key }, name, side, quantity, bracket.node, pnl),
    update(row) {
      setText(side, row.closing ? "closing" : row.side);
      setTone(side, row.side_tone);
      setText(quantity, row.quantity);
      bracket.update(row);
      setText(pnl, row.pnl);
      setTone(pnl, row.pnl_tone);
    },
  };
}

function buildDecisionRow(line) {
  const time = h("time");
  const action = h("span", { class: "labkit-action" });
  const reason = h("span", { class: "labkit-reason" });
  const numbers = h("span", { class: "labkit-numbers" });
  return {
    node: h("li", { "data-decision": line.key }, time, h("b", {}, line.key), action, reason, numbers),
    update(row) {
      setText(time, clockText(row.time_ms));
      setText(action, row.action);
      setTone(action, row.tone);
      setText(reason, row.reason);
      setText(numbers, row.numbers);
      setAttribute(reason, "title", row.change);
    },
  };
}

function buildEventRow() {
  const time = h("time");
  const text = h("span", { class: "labkit-reason" });
  return {
    node: h("li", {}, time, text),
    update(row) {
      setText(time, clockText(row.time_ms));
      setText(text, row.text);
      setTone(text, row.tone);
    },
  };
}

function buildFigure(row) {
  const text = h("span", { class: "labkit-figure-text" });
  return {
    node: h("div", { class: "labkit-figure", title: row.title }, h("span", { class: "labkit-figure-label" }, row.label), text),
    update(next) {
      setText(text, next.text);
      setTone(text, next.tone);
    },
  };
}

function buildChip(row) {
  const text = h("span");
  const node = h("li", { class: "labkit-chip" }, h("b", {}, row.label), text);
  return {
    node,
    update(next) {
      setText(text, next.text);
      setTone(node, next.tone);
      setAttribute(node, "title", next.title);
    },
  };
}

const COLUMNS = [
  ["Symbol", "", ""],
  ["Trend", "labkit-spark-cell", "The last quotes seen by this page"],
  ["Bid", "labkit-number", "Best price somebody buys at: what a long would get"],
  ["Ask", "labkit-number", "Best price somebody sells at: what a short would pay"],
  ["Spread", "labkit-number labkit-spread", "Ask minus bid, in basis points of the price"],
  ["Mark", "labkit-number labkit-mark", "Mark price: values the account, decides on liquidation"],
  ["24 h", "labkit-number labkit-change", "Change in 24 hours"],
  ["Funding", "labkit-number labkit-funding", "What longs pay to shorts at the next funding"],
  ["Depth", "labkit-liquidity", "Liquidity score"],
  ["Age", "labkit-number labkit-age", "Time since the last quote"],
];

function section(title, list, empty) {
  const nothing = h("p", { class: "labkit-nothing" }, empty);
  const count = h("span", { class: "labkit-count" });
  const node = h("section", { "aria-label": title }, h("h4", {}, title, count), list, nothing);
  return {
    node,
    fill(rows, make) {
      keyed(list, rows, make);
      nothing.hidden = rows.length > 0;
      setText(count, rows.length ? String(rows.length) : "");
    },
  };
}

export default widgetOf((feed, el) => {
  const header = buildHeader(feed, "Live monitor");
  const account = h("div", { class: "labkit-account" });
  const chips = h("ul", { class: "labkit-chips", "aria-label": "Health" });
  const head = h("tr", {}, ...COLUMNS.map(([text, name, title]) => h("th", { scope: "col", class: name, title }, text)));
  const body = h("tbody");
  const table = h("table", { class: "labkit-table", "aria-label": "Live prices" }, h("thead", {}, head), body);
  const positions = section("Open positions", h("ul", { class: "labkit-list" }), "No open position at the moment.");
  const decisions = section("Latest decisions", h("ul", { class: "labkit-list" }), "The first decision comes with the next full minutes.");
  const events = section("Events", h("ul", { class: "labkit-list labkit-log", tabindex: "0" }), "Nothing out of the ordinary.");
  const root = h(
    "div",
    { class: "labkit labkit-monitor" },
    header.node,
    account,
    chips,
    h("div", { class: "labkit-scroll" }, table),
    h("div", { class: "labkit-columns" }, h("div", {}, positions.node, events.node), decisions.node),
  );
  el.append(root);
  let rows = new Map();
  return showFeed(
    feed,
    (sections) => {
      header.paint(sections);
      keyed(account, sections.account, buildFigure);
      keyed(chips, sections.chips, buildChip);
      rows = keyed(body, sections.symbols, (line) => buildSymbolRow(feed, line));
      positions.fill(sections.positions, (line) => buildPositionRow(feed, line));
      decisions.fill(sections.decisions, buildDecisionRow);
      events.fill(sections.events, buildEventRow);
    },
    () => {
      header.tick(root);
      for (const entry of rows.values()) entry.tick(entry.row);
    },
  );
});
