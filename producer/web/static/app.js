// The dashboard's own code. Text reaches the page through the server's escaping or through textContent, never as HTML.
import { watch } from "./live.js";
import { forms } from "./forms.js";
import { keys } from "./keys.js";
import { theme } from "./theme.js";
import { clocks } from "./clocks.js";

for (const chart of document.querySelectorAll(".chart")) chart.scrollLeft = chart.scrollWidth; // the latest first
theme();
forms();
keys();
clocks();
watch();
