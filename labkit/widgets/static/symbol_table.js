// The table of prices: sorted and filtered as the reader wishes. Of hundreds of rows only those in sight are in the
// page, so that a frame costs what is seen and not what there is.

const SVG = "http://www.w3.org/2000/svg";
const ROW_HEIGHT = 29; // on a wide page; a narrow one gives a row more lines
const ROWS_IN_SIGHT = 16;
const ROWS_BEYOND = 3; // above and below what is in sight, so that scrolling finds no hole
const SORT_EVERY_MS = 1000; // rows that change places more often cannot be read

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
  const due = cell("due");
  const change = cell("change");
  const age = cell("age");
  const bar = h("i");
  const liquidity = h("span", { class: "labkit-bar", role: "img" }, bar);
  const spark = buildSparkline(feed, line.key);
  const held = h("span", { class: "labkit-side labkit-held-side" });
  const node = h(
    "tr",
    { "data-symbol": line.key },
    h("th", { scope: "row" }, line.key, held),
    h("td", { class: "labkit-spark-cell" }, spark.node),
    bid,
    ask,
    spread,
    h("td", { class: "labkit-liquidity" }, liquidity),
    mark,
    change,
    funding,
    due,
    age,
  );
  return {
    node,
    update(row) {
      setText(held, row.held);
      setTone(held, row.held === "long" ? "good" : "bad");
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
      setText(due, row.next_funding_ms === null ? "–" : durationText(Math.max(0, row.next_funding_ms - feed.marketNow())));
    },
  };
}

// What stands on the head, its classes, what it means, and what rows are sorted by (the larger first).
const COLUMNS = [
  ["Symbol", "labkit-symbol", "The symbol, and which way it is held", (row) => row.key],
  ["Trend", "labkit-spark-cell", "The last quotes seen by this page", null],
  ["Bid", "labkit-number labkit-bid-head", "Best price somebody buys at: what a long would get", (row) => numberOf(row.bid)],
  ["Ask", "labkit-number labkit-ask-head", "Best price somebody sells at: what a short would pay", (row) => numberOf(row.ask)],
  ["Spread bp", "labkit-number labkit-spread", "Ask minus bid, in basis points of the price", (row) => numberOf(row.spread)],
  ["Liquidity", "labkit-liquidity", "Liquidity score", (row) => row.liquidity],
  ["Mark", "labkit-number labkit-mark", "Mark price: values the account, decides on liquidation", (row) => numberOf(row.mark)],
  ["24 h", "labkit-number labkit-change", "Change in 24 hours", (row) => numberOf(row.change)],
  ["Funding", "labkit-number labkit-funding", "What longs pay to shorts at the next funding", (row) => numberOf(row.funding)],
  ["Due in", "labkit-number labkit-due", "Market time until the next funding", (row) => row.next_funding_ms],
  ["Age", "labkit-number labkit-age", "Time since the last quote", (row) => (row.quoted_ms === null ? null : -row.quoted_ms)],
];

// Rows in the order asked for; equal ones keep the exchange's order, those without a value come last.
function sortedRows(rows, valueOf, descending) {
  const sign = descending ? -1 : 1;
  return rows
    .map((row, place) => ({ row, place, value: valueOf(row) }))
    .sort((a, b) => {
      if (a.value === b.value) return a.place - b.place;
      if (a.value === null) return 1;
      if (b.value === null) return -1;
      return a.value < b.value ? -sign : sign;
    })
    .map((each) => each.row);
}

function buildSymbolTable(feed) {
  const wanted = { text: "", held: false, stale: false, column: -1, descending: false };
  let order = []; // the keys in sight-or-not, as last sorted
  let sortedAt = -Infinity;
  let lines = new Map();
  let rows = new Map();

  const search = h("input", { class: "labkit-filter", type: "search", placeholder: "Filter symbols", "aria-label": "Filter symbols", spellcheck: "false" });
  const toggle = (name, label, title) => {
    const button = h("button", { class: "labkit-button labkit-toggle", type: "button", "aria-pressed": "false", title }, label);
    button.addEventListener("click", () => {
      wanted[name] = !wanted[name];
      setAttribute(button, "aria-pressed", String(wanted[name]));
      rearrange();
    });
    return button;
  };
  const count = h("span", { class: "labkit-muted", role: "status" });
  const toolbar = h(
    "div",
    { class: "labkit-tools", role: "search" },
    search,
    toggle("held", "Only held", "Symbols with an open position"),
    toggle("stale", "Only stale", "Symbols whose quote is too old to decide on"),
    count,
  );
  search.addEventListener("input", () => {
    wanted.text = search.value.trim().toUpperCase();
    rearrange();
  });

  const heads = COLUMNS.map(([text, name, title, valueOf], index) => {
    if (valueOf === null) return h("th", { scope: "col", class: name, title }, text);
    const button = h("button", { class: "labkit-sort", type: "button" }, text);
    const head = h("th", { scope: "col", class: name, title, "aria-sort": "none" }, button);
    button.addEventListener("click", () => {
      // Numbers begin with the largest, names with the first; the third click gives the exchange's own order back.
      const first = index !== 0;
      if (wanted.column !== index) Object.assign(wanted, { column: index, descending: first });
      else if (wanted.descending === first) wanted.descending = !first;
      else wanted.column = -1;
      heads.forEach((each, at) => {
        if (each.hasAttribute("aria-sort")) setAttribute(each, "aria-sort", at !== wanted.column ? "none" : wanted.descending ? "descending" : "ascending");
      });
      rearrange();
    });
    return head;
  });
  const space = () => h("td", { class: "labkit-space" }); // one cell: a span would bring back the columns a narrow page leaves out
  const above = space();
  const below = space();
  const aside = (cell) => h("tbody", { "aria-hidden": "true" }, h("tr", {}, cell));
  const body = h("tbody");
  const table = h("table", { class: "labkit-table labkit-symbols", "aria-label": "Live prices" }, h("thead", {}, h("tr", {}, ...heads)), aside(above), body, aside(below));
  // The keys that scroll are the box's own, not the notebook's, while it has the focus.
  const box = h("div", { class: "labkit-scroll labkit-box", tabindex: "0", role: "region", "aria-label": "Live prices" }, table);
  const nothing = h("p", { class: "labkit-nothing", hidden: "" }, "No symbol is like that at the moment.");
  box.style.maxHeight = `${(ROWS_IN_SIGHT + 1) * ROW_HEIGHT + 6}px`;
  let rowHeight = ROW_HEIGHT;
  let scrolled = false;
  box.addEventListener("scroll", () => {
    if (scrolled) return;
    scrolled = true;
    requestAnimationFrame(() => {
      scrolled = false;
      show();
      tick();
    });
  });

  function arrange() {
    let kept = [...lines.values()].filter(
      (row) => (!wanted.text || row.key.includes(wanted.text)) && (!wanted.held || row.held) && (!wanted.stale || row.problem),
    );
    if (wanted.column >= 0) kept = sortedRows(kept, COLUMNS[wanted.column][3], wanted.descending);
    order = kept.map((row) => row.key);
    sortedAt = performance.now();
  }

  function rearrange() {
    arrange();
    show();
    tick();
  }

  function show() {
    const present = order.filter((key) => lines.has(key));
    rowHeight = body.firstChild?.offsetHeight || ROW_HEIGHT;
    const inSight = Math.ceil(box.clientHeight / rowHeight) || ROWS_IN_SIGHT;
    const last = Math.max(0, present.length - inSight);
    const first = Math.max(0, Math.min(last, Math.floor(box.scrollTop / rowHeight)) - ROWS_BEYOND);
    const end = Math.min(present.length, first + inSight + 2 * ROWS_BEYOND);
    above.style.height = `${first * rowHeight}px`;
    below.style.height = `${(present.length - end) * rowHeight}px`;
    above.parentNode.parentNode.hidden = first === 0;
    below.parentNode.parentNode.hidden = end === present.length;
    rows = keyed(body, present.slice(first, end).map((key) => lines.get(key)), (line) => buildSymbolRow(feed, line));
    setAttribute(table, "aria-rowcount", String(present.length + 1));
    for (let at = first; at < end; at++) setAttribute(rows.get(present[at]).node, "aria-rowindex", String(at + 2));
    nothing.hidden = present.length > 0 || lines.size === 0;
    toolbar.hidden = lines.size === 0;
    setText(count, present.length === lines.size ? `${lines.size} symbols` : `${present.length} of ${lines.size} symbols`);
  }

  function tick() {
    if (body.firstChild && body.firstChild.offsetHeight !== rowHeight) show(); // the page became wider or narrower
    for (const entry of rows.values()) entry.tick(entry.row);
  }

  return {
    nodes: [toolbar, box, nothing],
    paint(sections) {
      lines = new Map(sections.symbols.map((line) => [line.key, line]));
      if (performance.now() - sortedAt >= SORT_EVERY_MS || order.length === 0) arrange();
      show();
    },
    tick,
  };
}
