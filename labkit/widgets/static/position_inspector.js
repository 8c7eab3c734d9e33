// The table of open positions. Close asks once more: the second click within three seconds counts.

const CONFIRM_WITHIN_MS = 3000;
const ANSWER_EXPECTED_MS = 2000;

function buildRow(feed, line, say) {
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
  const why = h("td", { class: "labkit-why" });
  const liquidation = cell("liquidation");
  const button = h("button", { type: "button", class: "labkit-button" });
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
    if (phase === "sent") timer = setTimeout(() => say("The kernel has not answered yet: a cell may be keeping it busy.", "warn"), ANSWER_EXPECTED_MS);
  }

  button.addEventListener("click", () => {
    if (phase === "idle") return enter("armed");
    if (phase !== "armed") return;
    enter("sent");
    feed.wish({ wish: "close", symbol: line.key }, (error) => {
      enter(error ? "idle" : "under way");
      say(error ? `${line.key} was not closed: ${error}` : `${line.key}: closing order sent.`, error ? "bad" : "good");
      // If the position is still there and nobody is closing it, the button must come back.
      if (!error) timer = setTimeout(() => phase === "under way" && !current.closing && enter("idle"), 5000);
    });
  });
  button.addEventListener("keydown", (event) => event.key === "Escape" && phase === "armed" && enter("idle"));
  enter("idle");

  let current = line;
  return {
    node: h(
      "tr",
      { "data-position": line.key },
      h("th", { scope: "row" }, line.key),
      h("td", {}, side),
      quantity,
      entry,
      now,
      pnl,
      h("td", { class: "labkit-exits" }, stop, bracket.node, target),
      liquidation,
      held,
      why,
      h("td", { class: "labkit-actions" }, button),
    ),
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
      setText(why, row.reason);
      if (row.closing && phase !== "under way") enter("under way");
    },
    tick(row) {
      setText(held, durationText(feed.marketNow() - row.opened_ms));
      const left = row.due_ms === null ? "" : ` · closes by itself in ${durationText(Math.max(0, row.due_ms - feed.marketNow()))}`;
      setAttribute(held, "title", `opened ${clockText(row.opened_ms)} UTC${left} (market time)`);
    },
  };
}

const COLUMNS = [
  ["Symbol", "", ""],
  ["Side", "", ""],
  ["Quantity", "labkit-number labkit-quantity", "In base asset"],
  ["Entry", "labkit-number labkit-entry", "Average entry price"],
  ["Now", "labkit-number labkit-now", "What closing now would pay: bid for a long, ask for a short"],
  ["PnL", "labkit-number", "Unrealised profit or loss, and as a share of the entry cost"],
  ["Stop → target", "labkit-exits", "Where the price stands between the two exits"],
  ["Liquidation", "labkit-number labkit-liquidation", "Mark price at which the exchange would close it"],
  ["Held", "labkit-number labkit-held", "Market time since it was opened"],
  ["Why", "labkit-why", "Why it was opened"],
  ["", "labkit-actions", ""], // the buttons
];

export default widgetOf((feed, el) => {
  const header = buildHeader(feed, "Positions");
  const total = h("span", { class: "labkit-number labkit-total" });
  const pause = h("button", { type: "button", class: "labkit-button labkit-pause" });
  const message = h("div", { class: "labkit-message", role: "status", "aria-live": "polite" });
  const head = h("tr", {}, ...COLUMNS.map(([text, name, title]) => h("th", { scope: "col", class: name, title }, text)));
  const body = h("tbody");
  const table = h("table", { class: "labkit-table", "aria-label": "Open positions" }, h("thead", {}, head), body);
  const nothing = h("p", { class: "labkit-nothing" }, "No open position at the moment. The table fills by itself.");
  const label = h("span", { class: "labkit-figure-label" });
  const bar = h("div", { class: "labkit-toolbar" }, label, total, message, pause);
  const root = h("div", { class: "labkit labkit-positions" }, header.node, bar, h("div", { class: "labkit-scroll" }, table), nothing);
  el.append(root);

  let silenceAfter;
  function say(text, tone) {
    clearTimeout(silenceAfter);
    setText(message, text);
    setTone(message, tone);
    if (tone === "good") silenceAfter = setTimeout(() => setText(message, ""), 6000);
  }

  pause.addEventListener("click", () => {
    const wish = feed.sections.header.entries_paused ? "resume_entries" : "pause_entries";
    feed.wish({ wish }, (error) => say(error, "bad"));
  });

  let rows = new Map();
  return showFeed(
    feed,
    (sections) => {
      header.paint(sections);
      setText(label, sections.total.label);
      setText(total, sections.total.text);
      setTone(total, sections.total.tone);
      setText(pause, sections.header.entries_paused ? "Allow new entries" : "Pause new entries");
      rows = keyed(body, sections.positions, (line) => buildRow(feed, line, say));
      table.hidden = sections.positions.length === 0;
      nothing.hidden = sections.positions.length > 0;
    },
    () => {
      header.tick(root);
      for (const entry of rows.values()) entry.tick(entry.row);
    },
  );
});
