// Browsers keep a module for as long as the page lives, and to anywidget every widget is a module of its own. What it
// imports are these few lines; the widget's code comes as a trait, and each text is imported once a page.
const imported = (globalThis.labkitWidgets ??= new Map());

function importOnce(code) {
  if (!imported.has(code)) {
    const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
    const loading = import(/* webpackIgnore: true */ url).finally(() => URL.revokeObjectURL(url));
    loading.catch(() => imported.delete(code));
    imported.set(code, loading);
  }
  return imported.get(code);
}

export default () => {
  let widget;
  return {
    async initialize(context) {
      widget = (await importOnce(context.model.get("_code"))).default();
      return widget.initialize?.(context);
    },
    render(context) {
      return widget.render(context);
    },
  };
};
