// The live monitor: header, account, health, symbols, positions, decisions, events.

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
  const symbols = buildSymbolTable(feed);
  const positions = section("Open positions", h("ul", { class: "labkit-list" }), "No open position at the moment.");
  const decisions = section("Latest decisions", h("ul", { class: "labkit-list" }), "The first decision comes with the next full minutes.");
  const events = section("Events", h("ul", { class: "labkit-list labkit-log", tabindex: "0" }), "Nothing out of the ordinary.");
  const root = h(
    "div",
    { class: "labkit labkit-monitor" },
    header.node,
    account,
    chips,
    ...symbols.nodes,
    h("div", { class: "labkit-columns" }, h("div", {}, positions.node, events.node), decisions.node),
  );
  el.append(root);
  return showFeed(
    feed,
    (sections) => {
      header.paint(sections);
      keyed(account, sections.account, buildFigure);
      keyed(chips, sections.chips, buildChip);
      symbols.paint(sections);
      positions.fill(sections.positions, (line) => buildPositionRow(feed, line));
      decisions.fill(sections.decisions, buildDecisionRow);
      events.fill(sections.events, buildEventRow);
    },
    () => {
      header.tick(root);
      symbols.tick();
    },
  );
});
