// Light or dark: the system's choice until somebody chooses. A cookie, so that the server draws the right one at once.
const YEAR = 31536000;

export function theme() {
  document.getElementById("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    const now = root.dataset.theme === "auto" ? system : root.dataset.theme;
    root.dataset.theme = now === "dark" ? "light" : "dark";
    document.cookie = `producer_theme=${root.dataset.theme}; Path=/; SameSite=Strict; Max-Age=${YEAR}`;
  });
}
