"use strict";
// Keeps a page up to date while it is looked at. Everything works without it.
if (document.getElementById("live").firstChild) {
  const PAUSE_MS = 2000; // between two loads
  const STALE_MS = 30000; // after which "3 min ago" is worth another look
  const lost = document.getElementById("lost");
  let busy = false;
  let wanted = false;

  // Puts what changed in its place, and leaves focus and scrolling as they are.
  const replace = (fresh) => {
    const live = document.getElementById("live");
    if (!fresh || fresh.innerHTML === live.innerHTML) return;
    const focused = live.contains(document.activeElement) && document.activeElement.getAttribute("href");
    const offsets = [...live.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
    live.replaceWith(fresh);
    fresh.querySelectorAll(".scroll").forEach((box, i) => { box.scrollLeft = offsets[i] ?? 0; });
    if (focused) fresh.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  };

  const load = async () => {
    wanted = true;
    if (busy || document.hidden || !getSelection().isCollapsed) return;
    busy = true;
    wanted = false;
    try {
      const answer = await fetch(location.href);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (answer.ok) {
        document.title = page.title;
        replace(document.adoptNode(page.getElementById("live")));
      }
    } catch {
      lost.hidden = false;
    }
    setTimeout(() => {
      busy = false;
      if (wanted) load();
    }, PAUSE_MS);
  };

  const events = new EventSource("/events");
  events.onopen = () => {
    lost.hidden = true;
    load(); // something may have changed since the page was made
  };
  events.onerror = () => {
    // A server that answers, and has no place left, is not lost.
    lost.hidden = events.readyState === EventSource.CLOSED;
  };
  events.onmessage = ({ data }) => {
    const { changed, values } = JSON.parse(data);
    for (const [key, text] of Object.entries(values)) {
      for (const place of document.querySelectorAll(`[data-v="${CSS.escape(key)}"]`)) place.textContent = text;
    }
    if (changed) load();
  };
  document.addEventListener("visibilitychange", () => { if (!document.hidden) load(); });
  setInterval(load, STALE_MS);
}
