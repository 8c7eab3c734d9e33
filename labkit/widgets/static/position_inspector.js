// The inspector of positions: a table to choose from, the chosen one in detail, and the virtual ones below.

function buildRow(feed, line, say, choose) {
  const cell = (name, ...children) => h("td", { class: `labkit-number labkit-${name}`, "data-cell": name }, ...children);
  const side = h("span", { class: "labkit-side" });
  const quantity = cell("quantity");
  const entry = cell("entry");
  const now = cell("now");
  const pnlAmount = h("span");
  const pnlPercent = h("span", { class: "labkit-muted" });
  const pnl = cell("pnl", pnlAmount, " ", pnlPercent);
  const bracket = buildBracket();
  const stop = h("span");
  const target = h("span");
  const held = cell("held");
  const liquidation = cell("liquidation");
  const button = h("button", { type: "button", class: "labkit-button" });
  const name = h("button", { type: "button", class: "labkit-choose", title: "Show its chart, and why it was opened" }, line.key);
  const silent = (words) => say(words, "warn");
  let phase = "idle"; // idle, armed, sent, under way
  let timer;

  function enter(next) {
    phase = next;
    clearTimeout(timer);
    const words = { idle: "Close", armed: "Really close?", sent: "Sending…", "under way": "Closing…" };
    setText(button, words[phase]);
    setAttribute(button, "data-phase", phase);
    setAttribute(button, "aria-label", phase === "armed" ? `Really close ${line.key}? Press again` : `${words[phase]} ${line.key}`);
    setAttribute(button, "aria-disabled", String(phase === "sent" || phase === "under way"));
    if (phase === "armed") timer = setTimeout(() => enter("idle"), CONFIRM_WITHIN_MS);
  }

  button.addEventListener("click", (event) => {
    event.stopPropagation();
    if (phase === "idle") return enter("armed");
    if (phase !== "armed") return;
    enter("sent");
    feed.wish({ wish: "close", symbol: line.key }, (error) => {
      enter(error ? "idle" : "under way");
      say(error ? `${line.key} was not closed: ${error}` : `${line.key}: closing order sent.`, error ? "bad" : "good");
      // If the position is still there and nobody is closing it, the button must come back.
      if (!error) timer = setTimeout(() => phase === "under way" && !current.closing && enter("idle"), 5000);
    }, silent);
  });
  button.addEventListener("keydown", (event) => event.key === "Escape" && phase === "armed" && enter("idle"));
  enter("idle");

  let current = line;
  const node = h(
    "tr",
    { "data-position": line.key },
    h("th", { scope: "row" }, name),
    h("td", { class: "labkit-side-cell" }, side),
    quantity,
    entry,
    now,
    pnl,
    h("td", { class: "labkit-exits" }, h("div", { class: "labkit-way" }, stop, bracket.node, target)),
    liquidation,
    held,
    h("td", { class: "labkit-actions" }, button),
  );
  node.addEventListener("click", () => choose(line.key));
  return {
    node,
    name,
    update(row) {
      current = row;
      setText(side, row.side);
      setTone(side, row.side_tone);
      setText(quantity, row.quantity);
      setText(entry, row.entry);
      setNumber(now, row.now, numberOf(row.now));
      setText(pnlAmount, row.pnl);
      setText(pnlPercent, row.pnl_percent);
      setTone(pnlAmount, row.pnl_tone);
      bracket.update(row);
      setText(stop, row.trailing === "–" ? row.stop : row.trailing);
      setText(target, row.target);
      setText(liquidation, row.liquidation);
      if (row.closing && phase !== "under way") enter("under way");
      // A part was closed: what is left can be closed too.
      if (!row.closing && phase === "under way") timer = setTimeout(() => phase === "under way" && !current.closing && enter("idle"), 5000);
    },
    tick(row) {
      setText(held, durationText(feed.marketNow() - row.opened_ms));
      const left = row.due_ms === null ? "" : ` · closes by itself in ${durationText(Math.max(0, row.due_ms - feed.marketNow()))}`;
      setAttribute(held, "title", `opened ${clockText(row.opened_ms)} UTC${left} (market time)`);
    },
    mark(chosen) {
      setAttribute(node, "data-chosen", chosen ? "yes" : "");
      setAttribute(name, "aria-expanded", String(chosen));
    },
  };
}

function buildVirtualRow(feed, row) {
  const side = h("span", { class: "labkit-side" });
  const result = h("td", { class: "labkit-number" });
  const bracket = buildBracket();
  const due = h("td", { class: "labkit-number labkit-muted" });
  return {
    node: h("tr", {}, h("th", { scope: "row" }, row.symbol), h("td", {}, side), h("td", { class: "labkit-number" }, row.entry), h("td", {}, bracket.node), result, due),
    update(next) {
      setText(side, next.side);
      setTone(side, next.side_tone);
      setText(result, next.result);
      setTone(result, next.result_tone);
      bracket.update(next);
    },
    tick(next) {
      setText(due, durationText(Math.max(0, next.due_ms - feed.marketNow())));
    },
  };
}

const COLUMNS = [
  ["Symbol", "", ""],
  ["Side", "labkit-side-cell", ""],
  ["Quantity", "labkit-number labkit-quantity", "In base asset"],
  ["Entry", "labkit-number labkit-entry", "Average entry price"],
  ["Now", "labkit-number labkit-now", "What closing now would pay: bid for a long, ask for a short"],
  ["PnL", "labkit-number labkit-pnl", "Unrealised profit or loss at mark, and as a share of the entry cost"],
  ["Stop → target", "labkit-exits", "Where the price stands between the two exits"],
  ["Liquidation", "labkit-number labkit-liquidation", "Mark price at which the exchange would close it"],
  ["Held", "labkit-number labkit-held", "Market time since it was opened"],
  ["", "labkit-actions", ""], // the buttons
];
const VIRTUAL_COLUMNS = [
  ["Symbol", "", ""],
  ["Side", "", "The side the model leaned to"],
  ["Entry", "labkit-number", "The open of the bar after the question"],
  ["Stop → target", "", "Where the price stands between the two exits"],
  ["Result, bp", "labkit-number", "Gross, in basis points of the entry price"],
  ["Ends in", "labkit-number", "Market time until its time is up"],
];

const tableOf = (label, columns, body) =>
  h(
    "table",
    { class: "labkit-table", "aria-label": label },
    h("thead", {}, h("tr", {}, ...columns.map(([text, name, title]) => h("th", { scope: "col", class: name, title }, text)))),
    body,
  );

export default widgetOf((feed, el) => {
  const header = buildHeader(feed, "Positions");
  const total = h("span", { class: "labkit-number labkit-total" });
  const pause = h("button", { type: "button", class: "labkit-button labkit-pause" });
  const message = h("div", { class: "labkit-message", role: "status", "aria-live": "polite" });
  const body = h("tbody");
  const table = tableOf("Open positions", COLUMNS, body);
  const nothing = h("p", { class: "labkit-nothing" }, "No open position at the moment. The table fills by itself.");
  const hint = h("p", { class: "labkit-nothing labkit-hint" }, "Choose a row to see its chart, why it was opened, and to move its exits.");
  const label = h("span", { class: "labkit-figure-label" });
  const bar = h("div", { class: "labkit-toolbar" }, label, total, message, pause);
  const virtualBody = h("tbody");
  const virtualSummary = h("summary");
  const virtual = h("details", { class: "labkit-virtual" }, virtualSummary, h("div", { class: "labkit-scroll" }, tableOf("Virtual positions", VIRTUAL_COLUMNS, virtualBody)));

  let silenceAfter;
  function say(text, tone) {
    clearTimeout(silenceAfter);
    setText(message, text);
    setTone(message, tone);
    if (tone === "good") silenceAfter = setTimeout(() => setText(message, ""), 6000);
  }

  const silent = (words) => say(words, "warn");

  const detail = buildDetail(feed);
  const root = h("div", { class: "labkit labkit-positions" }, header.node, bar, h("div", { class: "labkit-scroll" }, table), nothing, hint, detail.node, virtual);
  el.append(root);

  pause.addEventListener("click", () => {
    const wish = feed.sections.header.entries_paused ? "resume_entries" : "pause_entries";
    feed.wish({ wish }, (error) => say(error, "bad"), silent);
  });

  let rows = new Map();
  let wanted = null; // the choice just made, until a frame shows it
  function choose(key) {
    const symbol = (wanted ?? feed.sections.chosen) === key ? "" : key;
    wanted = symbol;
    markChosen();
    feed.wish({ wish: "choose", symbol }, (error) => {
      if (error) say(error, "bad");
      wanted = null;
    }, silent);
  }
  const markChosen = () => rows.forEach((entry, key) => entry.mark(key === (wanted ?? feed.sections.chosen)));
  body.addEventListener("keydown", (event) => {
    const direction = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.target.className !== "labkit-choose" || !direction) return;
    event.preventDefault();
    const keys = feed.sections.positions.map((row) => row.key);
    const next = keys[keys.indexOf(event.target.textContent) + direction];
    if (next === undefined) return;
    rows.get(next).name.focus();
    if (next !== (wanted ?? feed.sections.chosen)) choose(next);
  });

  let virtualRows = new Map();
  const stop = showFeed(
    feed,
    (sections) => {
      header.paint(sections);
      setText(label, sections.total.label);
      setText(total, sections.total.text);
      setTone(total, sections.total.tone);
      setText(pause, sections.header.entries_paused ? "Allow new entries" : "Pause new entries");
      rows = keyed(body, sections.positions, (line) => buildRow(feed, line, say, choose));
      markChosen();
      table.hidden = sections.positions.length === 0;
      nothing.hidden = sections.positions.length > 0;
      hint.hidden = sections.positions.length === 0 || sections.chosen !== "";
      detail.paint(sections);
      setText(virtualSummary, sections.virtual_summary);
      virtual.hidden = sections.virtual.length === 0;
      virtualRows = keyed(virtualBody, sections.virtual, (row) => buildVirtualRow(feed, row));
    },
    () => {
      header.tick(root);
      for (const entry of rows.values()) entry.tick(entry.row);
      if (virtual.open) for (const entry of virtualRows.values()) entry.tick(entry.row);
    },
  );
  return () => {
    detail.close();
    stop();
  };
});
