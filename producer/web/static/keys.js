// The keyboard: `g` and a letter for a page, a few letters for what is done often. Never while something is written.
const WAIT = 1200;
let going = 0;
let here = -1;

function busy(event) {
  return (
    event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, [contenteditable]") ||
    document.querySelector("dialog[open]")
  );
}

function move(step) {
  const rows = [...document.querySelectorAll("main .task-link")];
  if (!rows.length) return;
  const now = rows.indexOf(document.activeElement);
  here = Math.min(rows.length - 1, Math.max(0, (now < 0 ? here : now) + step));
  rows[here].focus();
  rows[here].scrollIntoView({ block: "nearest" });
}

function press(selector) {
  const button = document.querySelector(selector);
  if (button && !button.disabled) button.click();
}

const KEYS = {
  j: () => move(1),
  k: () => move(-1),
  c: () => location.assign("/tasks/new"),
  "/": () => (document.querySelector("[data-search]") ? document.querySelector("[data-search]").focus() : location.assign("/tasks")),
  "!": () => press("#standing [data-dialog]"),
  "?": () => press('[data-dialog="keys-dialog"]'),
};

export function keys() {
  document.addEventListener("keydown", (event) => {
    if (busy(event)) return;
    if (going && Date.now() - going < WAIT) {
      going = 0;
      const link = document.querySelector(`nav a[data-key="${CSS.escape(event.key)}"]`);
      if (link) link.click();
      return;
    }
    going = event.key === "g" ? Date.now() : 0;
    const act = KEYS[event.key];
    if (act) {
      event.preventDefault();
      act();
    }
  });
}
