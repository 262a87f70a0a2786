// Running times tick here: no request is needed to know that a second has passed.
const SECOND = 1000;

function words(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${String(whole % 60).padStart(2, "0")} s` : `${whole} s`;
}

export function tick() {
  for (const element of document.querySelectorAll("[data-since]")) {
    const text = words(Date.now() / SECOND - Number(element.dataset.since));
    if (element.textContent !== text) element.textContent = text;
  }
}

export function clocks() {
  tick();
  setInterval(tick, SECOND);
}
