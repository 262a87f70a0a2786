// What happens, as it happens: the server's events say that something did; the regions marked data-live are then read
// anew and only what differs is changed, so that focus, open folds and the scroll stay.
import { morph } from "./morph.js";
import { tick } from "./clocks.js";

const GAP = 80; // least milliseconds between two looks
const AGAIN = 3000;
const DOING = new Set(["progress.text", "progress.tool_call", "progress.retry"]); // as the server has it
const AWAY = "The dashboard is not reachable; trying again.";
const page = document.body.dataset;
const query = new URLSearchParams(location.search);
const still = query.has("before") || query.has("text"); // a page of the past, or a search, is not redrawn

let source = null;
let last = null;
let under = false;
let wanted = false;
let pause = GAP;
let timer = 0;
const notices = { stream: "", page: "" }; // what the reader has to know of the connection, and of what it brings

function load() {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // it parses a page into an inert document: no text is ever made into HTML here
    request.open("GET", location.href);
    request.responseType = "document";
    request.setRequestHeader("Accept", "text/html");
    request.onload = () => resolve({ status: request.status, fresh: request.response });
    request.onerror = () => reject(new Error("unreachable"));
    request.send();
  });
}

export async function refresh() {
  wanted = true;
  if (under || timer) return;
  under = true;
  wanted = false;
  const begun = performance.now();
  try {
    const { status, fresh } = await load();
    if (status === 200) draw(fresh);
    say("page", status === 200 ? "" : failed(status, fresh));
  } catch {
    // nobody answered: the stream notices that, too, and says so
  }
  pause = Math.max(GAP, 2 * (performance.now() - begun)); // a slow page is looked at less often
  under = false;
  timer = setTimeout(() => {
    timer = 0;
    if (wanted) refresh();
  }, pause);
}

function draw(fresh) {
  if (page.page === "failure") location.reload(); // what was missing is there again
  for (const region of document.querySelectorAll("[data-live]:not(dialog[open])")) {
    const other = fresh.getElementById(region.id);
    if (other) morph(region, other);
  }
  tick();
  document.documentElement.dataset.refreshed = String(Number(document.documentElement.dataset.refreshed || 0) + 1);
}

function failed(status, fresh) {
  if (page.page === "failure") return "";
  if (status === 401) return "The session has ended: run producerctl ui for a new link.";
  const why = fresh?.querySelector("main .lead")?.textContent || `the dashboard answered ${status}`;
  return `This page shows how it was: ${why}`;
}

function say(about, text) {
  notices[about] = text;
  const line = document.getElementById("link-state");
  const shown = notices.page || notices.stream;
  if (line.textContent !== shown) line.textContent = shown;
  line.hidden = !shown;
}

function said(event) {
  if (!DOING.has(event.kind)) return;
  for (const worker of document.querySelectorAll(`[data-attempt="${CSS.escape(event.attempt || "")}"] [data-activity]`)) {
    worker.textContent = event.words;
  }
  if (page.task && event.task === page.task && event.kind === "progress.text" && event.text) stream(event);
}

// The last words of an agent, before they are in its transcript.
function stream(event) {
  const list = document.getElementById("transcript");
  list.querySelector('[data-key="empty"]')?.remove();
  const item = document.createElement("li");
  const time = document.createElement("time");
  const text = document.createElement("p");
  item.className = "t-text fresh";
  item.dataset.key = `live-${event.at}`;
  time.textContent = new Date(event.at * 1000).toLocaleTimeString([], { hour12: false });
  text.className = "prose";
  text.textContent = event.text;
  item.append(time, text);
  list.append(item);
}

function happened(message) {
  last = message.lastEventId || last;
  const event = JSON.parse(message.data);
  const talk = event.kind.startsWith("progress.");
  if (talk) said(event);
  if (!talk || event.kind === "progress.tool_result") refresh();
}

function open() {
  const parameters = new URLSearchParams();
  if (page.task) parameters.set("task", page.task);
  if (last) parameters.set("after", last);
  const address = `/api/events?${parameters}`;
  source = new EventSource(address);
  source.addEventListener("happened", happened);
  source.addEventListener("hello", (message) => {
    last = message.lastEventId || last;
    say("stream", "");
    document.documentElement.dataset.live = "yes";
  });
  source.addEventListener("error", () => {
    document.documentElement.dataset.live = "no";
    if (source.readyState !== EventSource.CLOSED) return say("stream", AWAY);
    source = null; // it was refused, and an EventSource does not say why
    explain(address);
    setTimeout(() => source || document.hidden || open(), AGAIN);
  });
}

async function explain(address) {
  try {
    const response = await fetch(address);
    if (response.ok) response.body.cancel();
    else say("stream", (await response.json()).error);
  } catch {
    say("stream", AWAY);
  }
}

function seen() {
  if (document.hidden) {
    source?.close(); // a page that nobody looks at gives its stream back
    source = null;
  } else if (!source) {
    open();
    refresh();
  }
}

export function watch() {
  if (still) return;
  document.addEventListener("visibilitychange", seen);
  addEventListener("pagehide", () => source?.close());
  addEventListener("pageshow", (event) => event.persisted && seen());
  if (!document.hidden) open();
}
