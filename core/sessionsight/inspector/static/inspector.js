// Keeps a page up to date, and lets the keyboard move through it. Without this script every page is whole, too.
//
// The server draws. When the stream of server-sent events says that records have arrived, the page's own address is
// asked for again, and the elements marked `data-live` take over what has changed.
"use strict";

(() => {
  const REFRESH_EVERY = 400; // ms, however fast records arrive
  const find = (selector, root = document) => root.querySelector(selector);
  const findAll = (selector, root = document) => [...root.querySelectorAll(selector)];

  // --- Taking over what has changed ---------------------------------------------------------------

  // Makes `from` equal to `to` in as few steps as possible, so that focus, selection and scroll position stay.
  // Children with an id are recognised by it.
  function morph(from, to) {
    if (from.isEqualNode(to)) return;
    if (from.nodeType !== Node.ELEMENT_NODE) {
      from.nodeValue = to.nodeValue;
      return;
    }
    for (const { name } of [...from.attributes]) {
      if (!to.hasAttribute(name) && name !== "open") from.removeAttribute(name);
    }
    for (const { name, value } of to.attributes) {
      if (from.getAttribute(name) !== value) from.setAttribute(name, value);
    }
    const known = new Map([...from.children].filter((child) => child.id).map((child) => [child.id, child]));
    let next = from.firstChild;
    for (const child of [...to.childNodes]) {
      const old = child.id ? known.get(child.id) : next && !next.id && next.nodeName === child.nodeName ? next : null;
      if (!old) {
        if (child.classList?.contains("row")) child.classList.add("fresh");
        from.insertBefore(child, next);
        continue;
      }
      if (old === next) next = next.nextSibling;
      else from.insertBefore(old, next);
      morph(old, child);
    }
    while (next) {
      const gone = next;
      next = next.nextSibling;
      gone.remove();
    }
  }

  let asked = 0;

  async function refresh() {
    if (!find("[data-live]")) return;
    const number = ++asked;
    const response = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
    if (!response || number !== asked) return;
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    if (number !== asked) return;
    for (const live of findAll("[data-live]")) {
      const counterpart = fresh.getElementById(live.id);
      if (counterpart) morph(live, counterpart);
    }
    const [pager, newPager] = [find("#pager"), fresh.getElementById("pager")];
    if (pager && newPager) pager.replaceWith(newPager);
    else if (pager) pager.remove();
    else if (newPager) find("#main").append(newPager);
    document.body.dataset.stream = fresh.body.dataset.stream;
    unhideCopy();
  }

  // --- The stream ---------------------------------------------------------------------------------

  const live = { paused: false, missed: 0, timer: 0, source: null };
  const older = () => new URLSearchParams(location.search).has("before");

  function say(state, text) {
    find("#live").dataset.state = state;
    find("#live-text").textContent = text;
  }

  function arrived() {
    if (live.paused) {
      live.missed += 1;
      say("paused", `${live.missed} new`);
    } else if (!live.timer && !document.hidden && !older()) {
      live.timer = setTimeout(() => {
        live.timer = 0;
        refresh();
      }, REFRESH_EVERY);
    } else if (document.hidden) {
      live.missed += 1;
    }
  }

  function connect() {
    live.source?.close();
    live.source = new EventSource(document.body.dataset.stream);
    live.source.addEventListener("open", () => {
      if (live.paused) return;
      say("live", "Live");
      if (!older()) refresh(); // what came between the page and the stream, or while there was no connection
    });
    live.source.addEventListener("error", () => say("lost", "No connection"));
    for (const event of ["record", "cleared", "reload"]) live.source.addEventListener(event, arrived);
  }

  function pause(paused = !live.paused) {
    live.paused = paused;
    find("#pause").setAttribute("aria-pressed", paused);
    find("#pause").textContent = paused ? "Resume" : "Pause";
    say(paused ? "paused" : "live", paused ? "Paused" : "Live");
    if (!paused) catchUp();
  }

  function catchUp() {
    if (live.missed && !live.paused && !document.hidden) {
      live.missed = 0;
      if (!older()) refresh();
    }
  }

  // --- Filters ------------------------------------------------------------------------------------

  function filtersFrom(form) {
    const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value !== ""));
    return `${form.action}${query.size ? `?${query}` : ""}`;
  }

  async function applyFilters(form) {
    const before = document.body.dataset.stream;
    history.replaceState(null, "", filtersFrom(form));
    await refresh();
    if (document.body.dataset.stream !== before) connect();
  }

  function listenToFilters(form) {
    let timer = 0;
    form.classList.add("instant"); // its button is not needed
    form.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => applyFilters(form), 150);
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      clearTimeout(timer);
      applyFilters(form);
    });
  }

  // --- Keyboard -----------------------------------------------------------------------------------

  function move(step) {
    const rows = findAll("a[data-row]");
    const row = document.activeElement?.closest(".row, .tile");
    const at = rows.findIndex((link) => row?.contains(link));
    const target = rows[at < 0 ? 0 : Math.min(Math.max(at + step, 0), rows.length - 1)];
    target?.focus();
    target?.closest(".row, .tile").scrollIntoView({ block: "nearest" });
  }

  const keys = {
    "/": () => (find("#search") ? find("#search").select() : location.assign("/#search")),
    j: () => move(1),
    k: () => move(-1),
    p: () => pause(),
  };

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input:not([type=radio]), select, textarea");
    if (event.key === "Escape" && typing) typing.blur();
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
  });

  // --- Small things -------------------------------------------------------------------------------

  function unhideCopy() {
    for (const button of findAll("[data-copy]")) button.hidden = !navigator.clipboard;
  }

  document.addEventListener("click", async (event) => {
    const copy = event.target.closest("[data-copy]");
    if (!copy) return;
    await navigator.clipboard.writeText(document.getElementById(copy.dataset.copy).textContent).catch(() => null);
    copy.textContent = "Copied";
    setTimeout(() => (copy.textContent = "Copy"), 1500);
  });

  document.addEventListener("submit", (event) => {
    const question = event.submitter?.dataset.confirm;
    if (question && !confirm(question)) event.preventDefault();
  });

  // Pointing at a mark of the timeline lights up its step below.
  document.addEventListener("mouseover", (event) => {
    const mark = event.target.closest('.lane a[href^="#"]');
    for (const lit of findAll(".row.lit")) lit.classList.remove("lit");
    if (mark) document.getElementById(mark.getAttribute("href").slice(1))?.classList.add("lit");
  });

  find("#live").hidden = false;
  find("#keys").hidden = false;
  find("#pause").addEventListener("click", () => pause());
  document.addEventListener("visibilitychange", catchUp);
  if (find("#filters")) listenToFilters(find("#filters"));
  if (location.hash === "#search") find("#search")?.focus();
  unhideCopy();
  connect();
})();
