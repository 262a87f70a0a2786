// Everything that changes something: forms and buttons with data-post send JSON and show beside the field what is wrong.
import { refresh } from "./live.js";

const csrf = document.querySelector('meta[name="csrf"]').content;

export async function post(address, body) {
  try {
    const response = await fetch(address, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Producer-CSRF": csrf },
      body: JSON.stringify(body),
    });
    return { ok: response.ok, data: await response.json() };
  } catch {
    return { ok: false, data: { error: "the dashboard is not reachable" } };
  }
}

class Wrong extends Error {
  constructor(field, message) {
    super(message);
    this.field = field;
  }
}

const READ = {
  flag: (input) => input.value === "true",
  check: (input) => input.checked,
  number: (input) => Number(input.value),
  optional: (input) => input.value.trim() || undefined,
  list: (input) => input.value.split(/[\s,]+/).filter(Boolean),
  json: (input) => {
    if (!input.value.trim()) return undefined;
    let value;
    try {
      value = JSON.parse(input.value);
    } catch (error) {
      throw new Wrong(input.name, `this is not JSON: ${error.message}`);
    }
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Wrong(input.name, "this must be a JSON object");
    return value;
  },
  text: (input) => {
    if (input.required && !input.value.trim()) throw new Wrong(input.name, "this cannot be empty");
    return input.value;
  },
};

function body(form) {
  const found = {};
  for (const input of form.elements) {
    if (!input.name || input.dataset.type === "none") continue;
    const value = (READ[input.dataset.type] || READ.text)(input);
    if (value !== undefined) found[input.name] = value;
  }
  for (const input of form.querySelectorAll("[data-confirms]")) {
    if (input.checked && !document.getElementById(input.dataset.confirms).checked) throw new Wrong("", "say that you are sure");
  }
  return found;
}

function clear(form) {
  for (const place of form.querySelectorAll("[data-error-for]")) place.textContent = "";
  for (const input of form.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
}

function show(form, field, text) {
  const place = form.querySelector(`[data-error-for="${CSS.escape(field || "")}"]`) || form.querySelector('[data-error-for=""]');
  place.textContent = text.startsWith(`${field}: `) ? text.slice(field.length + 2) : text;
  place.setAttribute("role", "alert");
  const input = field && form.elements.namedItem(field);
  if (input instanceof HTMLElement) {
    input.setAttribute("aria-invalid", "true");
    input.closest("details")?.setAttribute("open", "");
    input.focus();
  }
}

function leave(element, data) {
  const then = element.dataset.then;
  element.closest("dialog")?.close();
  if (then) location.assign(then.replace("{id}", encodeURIComponent(data.id || "")));
  else refresh();
}

async function submit(form) {
  clear(form);
  const button = form.querySelector('[type="submit"]');
  try {
    const found = body(form);
    button.disabled = true;
    const { ok, data } = await post(form.dataset.post, found);
    if (ok) {
      leave(form, data);
    } else show(form, data.field, data.error);
  } catch (error) {
    show(form, error.field, error.message);
  } finally {
    button.disabled = false;
  }
}

function beside(button) {
  for (let around = button.parentElement; around; around = around.parentElement) {
    const place = around.querySelector("[data-button-error]");
    if (place) return place;
  }
  return null;
}

async function press(button) {
  const place = beside(button); // now: an event may take the button away meanwhile
  button.disabled = true;
  const { ok, data } = await post(button.dataset.post, JSON.parse(button.dataset.body || "{}"));
  button.disabled = false;
  if (place) place.textContent = ok ? "" : data.error;
  if (ok) leave(button, data);
}

// A dialog begins with what the server says now, not with what was written in it before.
function ask(dialog) {
  const form = dialog.querySelector("form");
  if (form) {
    form.reset();
    clear(form);
    for (const sure of form.querySelectorAll(".sure")) sure.hidden = true;
  }
  dialog.showModal();
}

async function elsewhere() {
  const { ok, data } = await post("/api/links", {});
  document.getElementById("elsewhere-link").textContent = ok ? `${location.origin}${data.path}` : data.error;
}

function clicked(event) {
  const target = event.target.closest("[data-dialog], [data-close], button[data-post], #elsewhere");
  if (!target || target.disabled) return;
  if (target.dataset.dialog) ask(document.getElementById(target.dataset.dialog));
  else if (target.hasAttribute("data-close")) target.closest("dialog").close();
  else if (target.id === "elsewhere") elsewhere();
  else press(target);
}

export function forms() {
  document.addEventListener("click", clicked);
  document.addEventListener("submit", (event) => {
    if (!event.target.dataset.post) return;
    event.preventDefault();
    submit(event.target);
  });
  document.addEventListener("change", (event) => {
    const sure = event.target.dataset.confirms && document.getElementById(event.target.dataset.confirms);
    if (sure) sure.closest("label").hidden = !event.target.checked;
  });
}
