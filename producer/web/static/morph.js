// Make one element like another with the fewest changes. Children with a data-key are matched by it, others by place.

function attributes(from, to) {
  for (const { name, value } of to.attributes) {
    if (name === "open" && from.nodeName === "DETAILS") continue; // a fold stays as the reader left it
    if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name) && !(name === "open" && from.nodeName === "DETAILS")) from.removeAttribute(name);
  }
}

const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null);

function alike(one, other) {
  return one && one.nodeType === other.nodeType && one.nodeName === other.nodeName && !keyOf(one);
}

export function morph(from, to) {
  if (from.isEqualNode(to) || from.dataset?.mine !== undefined) return; // data-mine: what the page itself writes there
  attributes(from, to);
  const known = new Map([...from.children].filter(keyOf).map((child) => [keyOf(child), child]));
  let here = from.firstChild;
  for (const next of [...to.childNodes]) {
    const key = keyOf(next);
    const match = key ? known.get(key) : alike(here, next) ? here : null;
    if (!match || match.nodeName !== next.nodeName) {
      const added = document.importNode(next, true);
      if (key && known.size) added.classList.add("fresh");
      from.insertBefore(added, here);
      continue;
    }
    if (match === here) here = here.nextSibling;
    else from.insertBefore(match, here);
    if (match.nodeType === Node.ELEMENT_NODE) morph(match, next);
    else if (match.nodeValue !== next.nodeValue) match.nodeValue = next.nodeValue;
  }
  while (here) {
    const gone = here;
    here = here.nextSibling;
    gone.remove();
  }
}
