// Everything about the chosen position: result split, chart, exits, closing a part, receipt, rehearsal.

const CONFIRM_WITHIN_MS = 3000;
const REHEARSE_EVERY_MS = 150;

// A button that asks once more: the second press within three seconds counts. `press` is told that it did.
function buildArmedButton(words, name, press) {
  const button = h("button", { type: "button", class: "labkit-button" });
  let armed = false;
  let timer;
  function arm(next) {
    armed = next;
    clearTimeout(timer);
    if (armed) timer = setTimeout(() => arm(false), CONFIRM_WITHIN_MS);
    setText(button, armed ? "Really?" : words);
    setAttribute(button, "data-phase", armed ? "armed" : "idle");
    setAttribute(button, "aria-label", armed ? `Really: ${name()}? Press again` : name());
  }
  button.addEventListener("click", () => {
    if (button.getAttribute("aria-disabled") === "true") return;
    if (!armed) return arm(true);
    arm(false);
    press();
  });
  button.addEventListener("keydown", (event) => event.key === "Escape" && arm(false));
  arm(false);
  return { node: button, rename: () => !armed && setAttribute(button, "aria-label", name()) };
}

function buildContribution(row) {
  const bar = h("i");
  const text = h("span", { class: "labkit-number" });
  const lane = h("span", { class: "labkit-lean", role: "img" }, bar);
  return {
    node: h("li", { class: "labkit-contribution", "data-input": row.key, title: row.title }, h("span", {}, row.label), lane, text),
    update(next) {
      const share = Math.abs(next.share) * 50;
      bar.style.width = `${share}%`;
      bar.style.left = next.share < 0 ? `${50 - share}%` : "50%";
      setTone(bar, next.share < 0 ? "bad" : "good");
      setText(text, next.text);
      setAttribute(lane, "aria-label", `${next.label}: ${next.text}, ${next.share < 0 ? "against" : "for"} it`);
    },
  };
}

function buildGate(row) {
  const text = h("span");
  const mark = h("b", { "aria-hidden": "true" });
  const node = h("li", { class: "labkit-gate", "data-gate": row.key }, mark, text);
  return {
    node,
    update(next) {
      setText(mark, next.passed ? "✓" : "✗");
      setTone(mark, next.passed ? "good" : "bad");
      setText(text, next.text);
      setAttribute(node, "title", next.detail);
      setAttribute(node, "aria-label", `${next.passed ? "passed" : "failed"}: ${next.text} (${next.detail})`);
    },
  };
}

function buildReceipt() {
  const verdict = h("b");
  const chance = h("p", { class: "labkit-nothing" });
  const value = h("ul", { class: "labkit-value", "aria-label": "Expected value in basis points" });
  const contributions = h("ul", { class: "labkit-contributions", "aria-label": "What the inputs spoke for" });
  const gates = h("ul", { class: "labkit-gates", "aria-label": "Gates" });
  const flip = h("p", { class: "labkit-flip" });
  const none = h("p", { class: "labkit-nothing" }, "No decision of this lab opened it.");
  const body = h(
    "div",
    {},
    h("p", { class: "labkit-verdict" }, verdict),
    chance,
    h("h4", {}, "Expected value, in basis points of the notional"),
    value,
    h("h4", {}, "What the inputs spoke for, in log-odds"),
    contributions,
    flip,
  );
  const conditions = h("section", { class: "labkit-conditions", "aria-label": "Gates it had to pass" }, h("h4", {}, "Gates it had to pass"), gates);
  return {
    node: h("section", { class: "labkit-receipt", "aria-label": "Why it was opened" }, h("h4", {}, "Why it was opened"), none, body),
    gates: conditions,
    paint({ receipt }) {
      none.hidden = receipt !== null;
      body.hidden = conditions.hidden = receipt === null;
      if (receipt === null) return;
      setText(verdict, `${receipt.verdict} (${clockText(receipt.time_ms)} UTC).`);
      setText(chance, `${receipt.chance}.`);
      keyed(value, receipt.value, buildContribution);
      keyed(contributions, receipt.contributions, buildContribution);
      keyed(gates, receipt.gates, buildGate);
      setText(flip, receipt.flip);
    },
  };
}

const thousands = (value, places) => value.toLocaleString("en-US", { minimumFractionDigits: places, maximumFractionDigits: places });
const withSign = (value) => `${value < 0 ? "−" : "+"}${thousands(Math.abs(value), 2)}`;

// A field for one exit: typing makes it a draft, Enter or its button asks for it, Escape gives it up.
function buildExitField(key, label, move) {
  const input = h("input", { type: "text", inputmode: "decimal", class: "labkit-field", "data-exit": key, "aria-label": `${label} price`, autocomplete: "off" });
  const button = h("button", { type: "button", class: "labkit-button labkit-small", hidden: "" }, "Move");
  let dirty = false;
  let drafted = false; // its line in the chart is being moved
  let told = "";
  function settle(text) {
    dirty = drafted = false;
    button.hidden = true;
    input.value = text;
  }
  const ask = () => dirty && move(key, input.value.trim(), (error) => error || settle(told));
  input.addEventListener("input", () => {
    dirty = input.value !== told;
    button.hidden = !dirty;
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter") ask();
    if (event.key === "Escape") settle(told);
  });
  button.addEventListener("click", ask);
  return {
    node: h("label", { class: "labkit-exit" }, h("span", {}, label), input, button),
    paint(text, closing) {
      told = text;
      if (!dirty && !drafted && input.value !== text) input.value = text;
      input.disabled = closing || !text; // a position of somebody else has no exits
    },
    draft(text) {
      if (dirty) return;
      drafted = text !== null;
      input.value = text ?? told;
    },
  };
}

function buildEdits(feed, say) {
  let edit = null;
  function ask(content, done, onAnswer) {
    feed.wish({ symbol: edit.symbol, ...content }, (error) => {
      say(error ? `Refused: ${error}` : done, error ? "bad" : "good");
      onAnswer?.(error);
    }, (words) => say(words, "warn"));
  }
  function move(key, text, onAnswer) {
    ask({ wish: "move_exits", [key]: text }, `${edit.symbol}: ${key} moved to ${text}.`, onAnswer);
  }
  const stop = buildExitField("stop", "Stop", move);
  const target = buildExitField("target", "Target", move);
  const fields = { stop, target };
  const undo = h("button", { type: "button", class: "labkit-button labkit-small labkit-undo" });
  undo.addEventListener("click", () => ask({ wish: "undo_move" }, `${edit.symbol}: the last move is undone.`));

  const quantity = h("input", { type: "text", inputmode: "decimal", class: "labkit-field labkit-quantity-field", "aria-label": "Quantity to close, in base asset", placeholder: "quantity", autocomplete: "off" });
  const shares = [25, 50, 100].map((percent) =>
    buildArmedButton(
      `${percent} %`,
      () => `Close ${percent} % of ${edit?.symbol}`,
      () => ask({ wish: "close", percent }, `${edit.symbol}: an order closes ${percent} % of it.`),
    ),
  );
  const part = buildArmedButton(
    "Close quantity",
    () => `Close this quantity of ${edit?.symbol}`,
    () => ask({ wish: "close", quantity: quantity.value }, `${edit.symbol}: an order closes ${quantity.value}.`, (error) => error || (quantity.value = "")),
  );
  const buttons = [...shares, part];
  const node = h(
    "div",
    { class: "labkit-edits" },
    h("div", { class: "labkit-exit-row", role: "group", "aria-label": "Exits" }, stop.node, target.node, undo),
    h("div", { class: "labkit-close-row", role: "group", "aria-label": "Close a part" }, h("span", {}, "Close"), ...shares.map((each) => each.node), quantity, part.node),
  );
  return {
    node,
    // A line of the chart was put somewhere.
    moved(key, price, onAnswer) {
      move(key, price.toFixed(edit.places), (error) => {
        fields[key].draft(null);
        onAnswer(error);
      });
    },
    drafted(key, price) {
      fields[key].draft(price === null ? null : price.toFixed(edit.places));
      if (price === null || edit.now === null) return say("", "");
      const far = withSign((price / edit.now - 1) * 100);
      const worth = withSign((price - edit.now) * edit.base_per_price);
      say(`${key} ${thousands(price, edit.places)}: ${far} % from now, ${worth} USDT against now if it is reached`, "");
    },
    paint(sections) {
      const other = edit?.symbol !== sections.edit.symbol;
      edit = sections.edit;
      stop.paint(edit.stop, edit.closing);
      target.paint(edit.target, edit.closing);
      if (other) buttons.forEach((each) => each.rename());
      if (other) quantity.value = "";
      setAttribute(quantity, "title", `Up to ${edit.quantity}, in steps of ${edit.quantity_step}`);
      setAttribute(quantity, "placeholder", `of ${edit.quantity}`);
      undo.hidden = !edit.undo;
      setText(undo, edit.undo);
      for (const { node: button } of buttons) setAttribute(button, "aria-disabled", String(edit.closing));
    },
  };
}

function buildRehearsal(feed, say) {
  const range = h("input", { type: "range", min: "0.5", max: "50", step: "0.5", class: "labkit-range", "aria-label": "How far every price moves, in percent" });
  const shownPercent = h("output", { class: "labkit-number labkit-percent" });
  const ways = [["falls", "against longs", -1], ["rises", "against shorts", 1]].map(([word, whom, sign]) => {
    const button = h("button", { type: "button", class: "labkit-button labkit-small" }, `Every price ${word}`);
    setAttribute(button, "title", whom);
    setAttribute(button, "data-way", word);
    button.addEventListener("click", () => ask(sign * Number(range.value)));
    return { button, sign };
  });
  const question = h("h4", {});
  const verdict = h("b", { class: "labkit-what-if" });
  const stop = h("span", { class: "labkit-muted" });
  const figures = h("div", { class: "labkit-account", role: "group", "aria-label": "What would be" });
  let asked = null;
  let sign = -1;
  let timer;
  function ask(percent) {
    asked = percent;
    sign = Math.sign(percent);
    paintPercent(percent);
    clearTimeout(timer);
    timer = setTimeout(() => feed.wish({ wish: "rehearse", percent }, (error) => {
      if (error) say(`Refused: ${error}`, "bad");
      asked = null;
    }, (words) => say(words, "warn")), REHEARSE_EVERY_MS);
  }
  function paintPercent(percent) {
    setText(shownPercent, `${percent < 0 ? "−" : "+"}${Math.abs(percent)} %`);
    for (const { button, sign } of ways) setAttribute(button, "aria-pressed", String(Math.sign(percent) === sign));
  }
  range.addEventListener("input", () => ask(sign * Number(range.value)));
  return {
    node: h(
      "section",
      { class: "labkit-rehearsal", "aria-label": "What if" },
      question,
      h("div", { class: "labkit-toolbar" }, ...ways.map((way) => way.button), range, shownPercent),
      h("p", { class: "labkit-verdict", role: "status" }, verdict, " ", stop),
      figures,
    ),
    paint({ rehearsal }) {
      if (rehearsal === null) return;
      if (asked === null) {
        sign = Math.sign(rehearsal.percent) || -1;
        if (document.activeElement !== range) range.value = Math.abs(rehearsal.percent);
        paintPercent(rehearsal.percent);
      }
      setText(question, rehearsal.question);
      setText(verdict, `${rehearsal.verdict}.`);
      setTone(verdict, rehearsal.tone);
      setText(stop, rehearsal.stop);
      keyed(figures, rehearsal.figures, buildFigure);
    },
  };
}

function buildDetail(feed) {
  const message = h("div", { class: "labkit-answer", role: "status", "aria-live": "polite" });
  let silenceAfter;
  function say(text, tone) {
    clearTimeout(silenceAfter);
    setText(message, text);
    setTone(message, tone);
    if (tone === "good") silenceAfter = setTimeout(() => setText(message, ""), 6000);
  }
  const edits = buildEdits(feed, say);
  const chart = buildChart(feed, edits.moved, edits.drafted);
  const receipt = buildReceipt();
  const rehearsal = buildRehearsal(feed, say);
  const split = h("div", { class: "labkit-account labkit-split", role: "group", "aria-label": "Where the result comes from" });
  const title = h("h3", { class: "labkit-detail-title" });
  const close = h("button", { type: "button", class: "labkit-button labkit-small", "aria-label": "Leave the detail" }, "✕");
  close.addEventListener("click", () => feed.wish({ wish: "choose", symbol: "" }, (error) => error && say(error, "bad"), (words) => say(words, "warn")));
  const gone = h("p", { class: "labkit-gone", role: "status" });
  const body = h(
    "div",
    { class: "labkit-detail-body" },
    h("div", { class: "labkit-detail-main" }, chart.node, message, edits.node, rehearsal.node),
    h("div", { class: "labkit-detail-side" }, receipt.node),
  );
  const node = h("section", { class: "labkit-detail", "aria-label": "The chosen position", hidden: "" }, h("div", { class: "labkit-toolbar" }, title, close), gone, split, body, receipt.gates);
  let shown = "";
  return {
    node,
    paint(sections) {
      node.hidden = !sections.chosen;
      if (shown !== sections.chosen) say("", "");
      shown = sections.chosen;
      if (!sections.chosen) return;
      const isOpen = sections.edit !== null;
      setText(title, isOpen ? `${sections.chosen} · ${sections.edit.side} ${sections.edit.quantity}` : sections.chosen);
      gone.hidden = isOpen;
      setText(gone, sections.gone);
      split.hidden = body.hidden = receipt.gates.hidden = !isOpen;
      if (!isOpen) return;
      keyed(split, sections.split, buildFigure);
      edits.paint(sections);
      chart.paint(sections);
      receipt.paint(sections);
      rehearsal.paint(sections);
    },
    close: chart.close,
  };
}
