// Browsers keep a module for as long as the page lives, and to anywidget every widget is a module of its own. What it
// imports are these few lines; the widget's code comes as a trait, and each text is imported once a page.
const imported = (globalThis.labkitWidgets ??= startPage());

function startPage() {
  // JupyterLab takes plain keys for the cells (arrows walk, D D deletes) unless the focused element itself says no. They
  // belong to the control that has the focus; what is pressed with Ctrl or Alt, and Shift-Enter, goes on to JupyterLab.
  window.addEventListener(
    "keydown",
    ({ target, key, shiftKey, ctrlKey, altKey, metaKey }) => {
      if (!target.closest?.(".labkit")) return;
      const forJupyter = ctrlKey || altKey || metaKey || (shiftKey && key === "Enter");
      target.toggleAttribute("data-lm-suppress-shortcuts", !forJupyter);
    },
    true,
  );
  return new Map();
}

function importOnce(code) {
  if (!imported.has(code)) {
    const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
    const loading = import(/* webpackIgnore: true */ url).finally(() => URL.revokeObjectURL(url));
    loading.catch(() => imported.delete(code));
    imported.set(code, loading);
  }
  return imported.get(code);
}

// JupyterLab keeps every model there ever was on a page, since its comm listens to the kernel's status for good, and with
// that of the layout the elements of its views: both are emptied. A model also keeps what it was before its last change,
// so the text that all share comes last.
const LARGE = ["frame", "_css", "_code"];

export default () => {
  let widget;
  return {
    async initialize(context) {
      widget = (await importOnce(context.model.get("_code"))).default();
      const end = await widget.initialize?.(context);
      return () => {
        end?.();
        LARGE.forEach((name) => context.model.set(name, null));
      };
    },
    render(context) {
      const end = widget.render(context);
      return () => {
        end?.();
        context.el.replaceChildren();
      };
    },
  };
};
