// A page that is no notebook: the widget on a model made of its traits, and how well every text on it can be read.
// Contrast as WCAG 2.2 defines it: the relative luminances of text and ground, each plus 0.05, as a ratio.
async ({ state, messages }) => {
  const listeners = new Map();
  const fire = (name, ...told) => (listeners.get(name) ?? []).forEach((listener) => listener(...told));
  const model = {
    get: (name) => state[name],
    on: (name, listener) => listeners.set(name, [...(listeners.get(name) ?? []), listener]),
    off() {},
    send: (content) => content.kind === "resync" && setTimeout(() => fire("change:frame")),
  };
  const sheet = document.createElement("style");
  sheet.textContent = state._css;
  document.head.append(sheet);
  const code = new Blob([state._esm], { type: "text/javascript" });
  const widget = (await import(URL.createObjectURL(code))).default();
  const el = document.body.appendChild(document.createElement("div"));
  await widget.initialize({ model });
  await widget.render({ model, el });
  for (const [content, buffers] of messages) {
    fire("msg:custom", content, buffers.map((numbers) => new DataView(Float64Array.from(numbers).buffer)));
  }
  const frames = async () => {
    for (let wait = 0; wait < 4; wait++) await new Promise(requestAnimationFrame);
  };
  await frames();
  // What is seen only at times: folded parts, a button that asks once more, a level on its way, the word that all is old.
  el.querySelectorAll("details").forEach((details) => (details.open = true));
  el.querySelectorAll("[data-phase=idle]").forEach((button) => button.click());
  el.querySelector("[data-level=stop].labkit-chart-movable")?.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowUp" }));
  await frames();
  for (const word of el.querySelectorAll(".labkit-stale")) {
    word.hidden = false;
    word.textContent = "STALE";
  }

  const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const known = new Map();
  // Red, green, blue (0 to 255) and opacity (0 to 1) of any colour the browser understands.
  function rgba(colour) {
    if (!known.has(colour)) {
      context.clearRect(0, 0, 1, 1);
      context.fillStyle = "transparent";
      context.fillStyle = colour;
      context.fillRect(0, 0, 1, 1);
      const [red, green, blue, alpha] = context.getImageData(0, 0, 1, 1).data;
      known.set(colour, [red, green, blue, alpha / 255]);
    }
    return known.get(colour);
  }
  function over(upper, lower) {
    const alpha = upper[3] + lower[3] * (1 - upper[3]);
    const mixed = [0, 1, 2].map((at) => (upper[at] * upper[3] + lower[at] * lower[3] * (1 - upper[3])) / (alpha || 1));
    return [...mixed, alpha];
  }
  const CLEAR = [0, 0, 0, 0];
  const WHITE = [255, 255, 255, 1];
  // What one sees where `node` shows `leaf`, with every ground and opacity behind it.
  function seen(node, leaf, behind) {
    let colour = behind ? over(leaf, behind) : leaf;
    for (let at = node; at; at = at.parentElement) {
      const style = getComputedStyle(at);
      colour = over(colour, rgba(style.backgroundColor));
      colour = [...colour.slice(0, 3), colour[3] * Number(style.opacity)];
    }
    return over(colour, WHITE);
  }
  const linear = (part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([red, green, blue]) => 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
  function contrast(one, other) {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  }

  const texts = [];
  function judge(node, text, colour, behind = null) {
    const ratio = contrast(seen(node, rgba(colour), behind), seen(node, CLEAR, behind));
    texts.push([`${node.closest("[class]").getAttribute("class")}: ${text.trim()}`, Math.round(ratio * 100) / 100]);
  }
  const walker = document.createTreeWalker(el, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const node = text.parentElement;
    const style = getComputedStyle(node);
    if (!text.data.trim() || !node.checkVisibility({ visibilityProperty: true })) continue;
    const back = node instanceof SVGElement && node.parentElement.querySelector("rect");
    judge(node, text.data, node instanceof SVGElement ? style.fill : style.color, back ? rgba(getComputedStyle(back).fill) : null);
  }
  for (const field of el.querySelectorAll("input:not([type=range])")) {
    const shown = field.value ? getComputedStyle(field) : getComputedStyle(field, "::placeholder");
    if (field.checkVisibility() && (field.value || field.placeholder)) judge(field, field.value || field.placeholder, shown.color);
  }

  // How far the most visible point of each picture stands off its ground.
  const pictures = [...el.querySelectorAll("canvas")].map((canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const ground = seen(canvas, CLEAR);
    let best = 1;
    for (let at = 0; at < data.length; at += 4) {
      if (data[at + 3]) best = Math.max(best, contrast(over([data[at], data[at + 1], data[at + 2], data[at + 3] / 255], ground), ground));
    }
    return [canvas.getAttribute("aria-label"), Math.round(best * 100) / 100];
  });
  return { texts, pictures };
}
