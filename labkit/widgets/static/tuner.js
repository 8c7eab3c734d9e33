// The tuner: sliders and number fields on the left, what the settings would have come to on the right.

const CONFIRM_WITHIN_MS = 3000;
const NEWS_EVERY_MS = 5000; // how soon a promotion, or what another page applied, is compared with

let fields = 0; // of all tuners on the page: one tuner may be shown in two places

function buildSetting(setting, moved) {
  fields += 1;
  const id = `labkit-tuner-field-${fields}`;
  const limits = { min: setting.low, max: setting.high, step: setting.step };
  const range = h("input", { type: "range", ...limits, "aria-label": setting.label, "aria-description": setting.tooltip, "data-setting": setting.key });
  const field = h("input", { type: "number", id, "data-field": setting.key, step: setting.whole ? 1 : "any" });
  const reset = h("button", { type: "button", class: "labkit-tuner-reset", "aria-label": `Reset ${setting.label}` }, "↺");
  const node = h(
    "div",
    { class: "labkit-tuner-setting", title: setting.tooltip },
    h("label", { for: id }, setting.label),
    range,
    field,
    h("span", { class: "labkit-muted" }, setting.unit),
    reset,
  );
  let back = setting.default;
  let text = "";
  let held = false;
  const take = (value, preview) => {
    held = preview;
    if (Number.isFinite(value)) moved(setting.key, value, preview);
  };
  const release = () => held && take(range.valueAsNumber, false);
  range.addEventListener("input", () => take(range.valueAsNumber, true));
  range.addEventListener("change", () => take(range.valueAsNumber, false));
  // A slider let go where it was taken up has not changed, to the browser; the last look was a preview all the same.
  range.addEventListener("pointerup", () => setTimeout(release));
  range.addEventListener("pointercancel", release);
  range.addEventListener("blur", release);
  const typed = () => field.value !== text && take(field.valueAsNumber, false);
  field.addEventListener("change", typed);
  // JupyterLab keeps Enter from the fields inside a cell, and with it the change that Enter makes.
  field.addEventListener("keydown", (event) => event.key === "Enter" && typed());
  field.addEventListener("blur", () => (field.value = text));
  reset.addEventListener("click", () => {
    take(back, false);
    range.focus(); // this button is gone now, and without a focus keys would go to the notebook
  });
  return {
    node,
    show(value, running) {
      back = running;
      if (document.activeElement !== range || range.valueAsNumber !== value) range.value = value;
      text = String(Number(value.toPrecision(6)));
      // A run that ends meanwhile must not take away what is being typed.
      if (document.activeElement !== field) field.value = text;
      const differs = value !== running;
      setAttribute(node, "data-differs", differs ? "yes" : "");
      reset.style.visibility = differs ? "visible" : "hidden";
      setAttribute(reset, "title", `Back to ${running} ${setting.unit}`);
      setAttribute(range, "aria-valuetext", `${value} ${setting.unit}${differs ? `, differs from ${running}` : ""}`);
    },
  };
}

function render({ model, el }) {
  const panel = () => model.get("panel");
  let values = { ...model.get("values") };
  let asked = 0; // page time of the move that waits for its picture
  let dragged = ""; // the setting whose slider is held
  const page = Math.random().toString(36).slice(2);
  let moves = 0;
  let unsent = {}; // what was moved since the last message
  const sent = new Map(); // what each move sets that the kernel has not taken yet, by number

  const state = h("span", { class: "labkit-badge", role: "status", "data-part": "span" }, "first run…");
  const running = h("span", { class: "labkit-state", "data-tone": "warn", "data-part": "running" }, "running…");
  const looks = h("span", { class: "labkit-muted", "data-part": "trials" });
  const span = h("div", { class: "labkit-disclosure" });
  const controls = h("div", { class: "labkit-tuner-controls" });
  const score = h("table", { class: "labkit-table", "aria-label": "Score" });
  const verdict = h("div", { class: "labkit-tuner-verdict", role: "status" });
  const challenger = h("div", { class: "labkit-tuner-challenger", "data-part": "challenger" });
  const message = h("div", { class: "labkit-message", role: "status", "aria-live": "polite" });
  const charts = {
    equity: canvasChart("Equity"),
    drawdown: canvasChart("Drawdown"),
    skill: canvasChart("Skill per day, millinats a label"),
    reliability: canvasChart("Reliability: said and came true"),
  };
  const name = h("input", { type: "text", class: "labkit-filter", placeholder: "name", "aria-label": "Name to save under" });
  const button = (text, part) => h("button", { type: "button", class: "labkit-button", "data-part": part }, text);
  const save = button("Save", "save");
  const reset = button("Reset all", "reset");
  const challenge = button("Run as challenger", "challenge");
  const apply = button("Apply", "apply");
  const root = h(
    "div",
    { class: "labkit labkit-tuner" },
    h("div", { class: "labkit-head" }, h("span", { class: "labkit-title" }, "Tuner"), state, running, looks),
    span,
    h(
      "div",
      { class: "labkit-tuner-columns" },
      controls,
      h("div", { class: "labkit-tuner-charts" }, ...Object.values(charts).map((chart) => chart.node)),
    ),
    h("div", { class: "labkit-scroll" }, score),
    verdict,
    challenger,
    h("div", { class: "labkit-tools" }, reset, name, save, challenge, apply, message),
  );
  el.append(root);

  const ask = (preview) => {
    asked ||= performance.now();
    moves += 1;
    sent.set(moves, unsent);
    model.send({ kind: "set", values: unsent, preview, move: [page, moves] });
    unsent = {};
    showRunning();
    silence.asked();
  };
  // While dragging: one request a frame at most; the newest wins anyway.
  let waiting = false;
  const moved = (key, value, preview) => {
    values = { ...values, [key]: value };
    unsent = { ...unsent, [key]: value };
    dragged = preview ? key : "";
    if (!preview) {
      waiting = false;
      ask(false);
    } else if (!waiting) {
      waiting = true;
      requestAnimationFrame(() => waiting && ((waiting = false), ask(true)));
    }
    showValues();
  };
  const rows = new Map();
  for (const setting of panel().settings) {
    if (!controls.querySelector(`[data-group="${setting.group}"]`)) {
      controls.append(h("fieldset", { "data-group": setting.group }, h("legend", {}, setting.group)));
    }
    const row = buildSetting(setting, moved);
    rows.set(setting.key, row);
    controls.querySelector(`[data-group="${setting.group}"]`).append(row.node);
  }

  function showValues() {
    const now = panel();
    rows.forEach((row, key) => row.show(values[key], now.running[key]));
    const changed = [...rows.keys()].some((key) => values[key] !== now.running[key]);
    challenge.hidden = apply.hidden = !now.lab;
    // Not `disabled`, which takes the focus from the button just pressed and gives its keys to the notebook.
    [challenge, apply, reset].forEach((each) => setAttribute(each, "aria-disabled", String(!changed)));
    setText(span, now.span);
    setText(challenger, now.challenge && `${now.challenge[0].toUpperCase()}${now.challenge.slice(1)}.`);
  }

  // What another page, or the lab, has set meanwhile; never what is held, nor what the kernel has still to hear of.
  function adopt() {
    const [mover, number] = model.get("move");
    if (mover === page) sent.forEach((_, move) => move <= number && sent.delete(move));
    if (sent.size === 0) silence.answered();
    const holding = dragged ? { [dragged]: values[dragged] } : {};
    values = Object.assign({}, model.get("values"), ...sent.values(), unsent, holding);
    showValues();
    showRunning();
  }

  function showRunning() {
    running.hidden = sent.size === 0 && !model.get("running");
  }

  function showLook(look, buffers) {
    unsay("look");
    if (look.error) {
      say("look", look.error, "bad");
      asked = 0;
      return;
    }
    const curves = {};
    look.curves.forEach((curve, at) => {
      const view = buffers[at];
      curves[curve] = new Float64Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
    });
    const last = look.first_day_ms + (curves.equity.length - 1) * 86_400_000;
    const dates = [dateText(look.first_day_ms), dateText(last)];
    const compared = `grey: ${panel().compared}`;
    charts.equity.show(drawEquity(curves, dates), `${money(curves.equity.at(-1))} · ${compared}`);
    charts.drawdown.show(drawDrawdown(curves, dates), `deepest by day ${percent(rangeOf(curves.drawdown, [0])[0])}`);
    const known = [...curves.skill].filter(Number.isFinite);
    const mean = known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : 0;
    charts.skill.show(drawSkill(curves, dates), `mean ${minus(mean.toFixed(2))}`);
    charts.reliability.show(drawReliability(curves), "bars: two standard errors");
    setText(state, look.span);
    setAttribute(state, "data-preview", look.preview ? "yes" : "");
    setText(looks, look.trials);
    const cell = (text, at) => h(at ? "td" : "th", { scope: at ? "" : "row", class: at ? "labkit-number" : "" }, text);
    score.replaceChildren(
      h("thead", {}, h("tr", {}, ...look.titles.map((title, at) => h("th", { scope: "col", class: at ? "labkit-number" : "" }, title)))),
      h("tbody", {}, ...look.rows.map((row) => h("tr", {}, ...row.map(cell)))),
    );
    verdict.replaceChildren(
      h("b", {}, look.verdict || "The verdict needs the whole history: let go of the slider."),
      h("ul", {}, ...look.reasons.map((reason) => h("li", {}, reason[0].toUpperCase() + reason.slice(1)))),
    );
    if (asked) root.dataset.redrawMs = String(Math.round(performance.now() - asked));
    asked = 0;
    root.dataset.number = String(look.number);
  }

  let about = ""; // what the message is about: a look, an answer to a button, the silence of the kernel
  function say(subject, text, tone) {
    about = subject;
    setText(message, text);
    setTone(message, tone);
  }
  const unsay = (subject) => about === subject && say("", "", "");
  const silence = watchForSilence((words) => (words ? say("silence", `${words} What is set here waits.`, "warn") : unsay("silence")));
  const wish = (content) => {
    model.send({ kind: "wish", ...content });
    silence.asked();
  };
  const saveIt = () => wish({ wish: "save", name: name.value.trim() });
  save.addEventListener("click", saveIt);
  name.addEventListener("keydown", (event) => event.key === "Enter" && saveIt());
  const pressed = (node, act) => node.addEventListener("click", () => node.getAttribute("aria-disabled") === "false" && act());
  pressed(challenge, () => wish({ wish: "challenge" }));
  pressed(reset, () => {
    values = { ...panel().running };
    unsent = values;
    dragged = "";
    showValues();
    ask(false);
  });
  let armed = false;
  let timer;
  function arm(next) {
    armed = next;
    clearTimeout(timer);
    setText(apply, armed ? "Really stop and start the lab?" : "Apply");
    if (armed) timer = setTimeout(() => arm(false), CONFIRM_WITHIN_MS);
  }
  pressed(apply, () => {
    if (!armed) return arm(true);
    arm(false);
    model.send({ kind: "wish", wish: "apply" });
    say("answer", "Stopping the lab, and starting it with these settings…", "warn");
  });
  apply.addEventListener("keydown", (event) => event.key === "Escape" && arm(false));

  const onMessage = (content, buffers) => {
    if (content.kind === "look") showLook(content, buffers);
    if (content.kind !== "answer") return;
    silence.answered();
    say("answer", content.error || content.text, content.error ? "bad" : "good");
  };
  const onPanel = () => showValues();
  const news = setInterval(() => panel().lab && !document.hidden && model.send({ kind: "news" }), NEWS_EVERY_MS);
  model.on("msg:custom", onMessage);
  model.on("change:panel", onPanel);
  model.on("change:values", adopt);
  model.on("change:move", adopt);
  model.on("change:running", showRunning);
  showValues();
  showRunning();
  model.send({ kind: "hello" });
  return () => {
    model.off("msg:custom", onMessage);
    model.off("change:panel", onPanel);
    model.off("change:values", adopt);
    model.off("change:move", adopt);
    model.off("change:running", showRunning);
    clearInterval(news);
    clearTimeout(timer);
    silence.answered();
    Object.values(charts).forEach((chart) => chart.close());
  };
}

export default () => ({ render });
