// What is looked for in a page. Each of these runs in the browser and returns what is wrong, as texts.

// What is wider than the window without a box of its own around it to scroll in.
export const overflow = () => {
  const width = document.documentElement.clientWidth;
  return document.documentElement.scrollWidth > width ? [`${document.documentElement.scrollWidth} px in ${width} px`] : [];
};

// The texts that do not stand out from what is behind them (WCAG 2.2, 1.4.3).
export const contrast = () => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const linear = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = rgba(getComputedStyle(at).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255, 255];
  };
  const poor = new Set();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.checkVisibility() || element.closest("noscript, .away")) continue;
    const [a, b] = [light(rgba(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.add(`"${texts.currentNode.data.trim().slice(0, 30)}" has a contrast of ${ratio.toFixed(2)}`);
  }
  return [...poor];
};

// What somebody who does not see the page is told of it.
export const semantics = () => {
  const wrong = [];
  const all = (selector) => [...document.querySelectorAll(selector)];
  const said = (element) => element.outerHTML.slice(0, 60);
  if (!document.documentElement.lang) wrong.push("it does not say its language");
  if (!document.title.endsWith(" · highwater") || document.title.startsWith(" ")) wrong.push(`its title is "${document.title}"`);
  if (all("h1").length !== 1 || !all("h1")[0].textContent.trim()) wrong.push(`it has ${all("h1").length} h1`);
  for (const landmark of ["header", "main", "nav"]) {
    if (!all(landmark).length) wrong.push(`it has no ${landmark}`);
  }
  for (const table of all("table")) {
    if (!table.caption?.textContent.trim()) wrong.push(`${said(table)} has no caption`);
    if (!table.tHead?.querySelector("th")) wrong.push(`${said(table)} has no headers`);
    for (const row of table.tBodies[0].rows) {
      const width = [...row.cells].reduce((sum, cell) => sum + cell.colSpan, 0);
      if (row.className !== "none" && width !== table.tHead.rows[0].cells.length) wrong.push(`${said(row)} has ${width} cells`);
    }
  }
  for (const header of all("th")) {
    if (!["col", "row"].includes(header.scope)) wrong.push(`${said(header)} has no scope`);
  }
  for (const field of all("input:not([aria-hidden]), select, textarea")) {
    if (!field.labels?.length) wrong.push(`${said(field)} has no label`);
  }
  for (const one of all("a, button")) {
    if (!one.textContent.trim() && !one.ariaLabel) wrong.push(`${said(one)} has no text`);
  }
  for (const picture of all("svg, img")) {
    if (!picture.ariaLabel && !picture.alt) wrong.push(`${said(picture)} has no text`);
  }
  const ids = all("[id]").map((element) => element.id);
  for (const id of ids.filter((id, at) => ids.indexOf(id) !== at)) wrong.push(`the id ${id} is there twice`);
  return wrong;
};

// How what has the focus looks: what it is, whether it is in the window and has a ring around it.
export const focus = () => {
  const element = document.activeElement;
  if (!element || element === document.body) return null;
  const { left, right, top, bottom, width, height } = element.getBoundingClientRect();
  const { outlineStyle, outlineWidth } = getComputedStyle(element);
  return {
    name: `${element.localName} "${(element.ariaLabel ?? element.name ?? element.textContent).trim().slice(0, 40) || element.textContent.trim()}"`,
    text: element.textContent.trim(),
    isSeen: width > 0 && height > 0 && right > 0 && left < innerWidth && bottom > 0 && top < innerHeight,
    hasRing: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2,
    nth: [...document.querySelectorAll("*")].indexOf(element),
  };
};
