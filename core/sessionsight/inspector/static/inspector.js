// Updates pages, filters immediately, and copies. Pages also work without this script.
//
// The server renders. When the stream of server-sent events reports new records, the page's own URL is requested
// again, and the elements marked `data-live` are updated with what has changed.
"use strict";

(() => {
  const REFRESH_EVERY = 400; // ms, however fast records arrive
  const POLL_EVERY = 2000; // ms, for what changes without a record
  const SCROLLED = 300; // px, from which on the newest rows are out of sight
  const find = (selector, root = document) => root.querySelector(selector);
  const findAll = (selector, root = document) => [...root.querySelectorAll(selector)];

  // --- Update changed elements --------------------------------------------------------------------

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
    const first = find("#records .row")?.id;
    for (const live of findAll("[data-live]")) {
      const counterpart = fresh.getElementById(live.id);
      if (counterpart) morph(live, counterpart);
    }
    if (first) {
      const rows = findAll("#records .row");
      const at = rows.findIndex((row) => row.id === first);
      showNewer(at < 0 ? rows.length : at);
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

  const title = document.title;

  function say(state, text) {
    find("#live").dataset.state = state;
    find("#live-text").textContent = text;
  }

  // The number of unseen records is in the title too, where it is visible while another tab is in front.
  function miss(number) {
    live.missed = number;
    document.title = number ? `(${number}) ${title}` : title;
  }

  function arrived() {
    if (live.paused) {
      miss(live.missed + 1);
      say("paused", `${live.missed} new`);
    } else if (older()) {
      showNewer(1);
    } else if (document.hidden) {
      miss(live.missed + 1);
    } else if (!live.timer) {
      live.timer = setTimeout(() => {
        live.timer = 0;
        refresh();
      }, REFRESH_EVERY);
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
      miss(0);
      if (!older()) refresh();
    }
  }

  // --- Records newer than those on the screen -----------------------------------------------------

  const newest = { rows: 0 };

  // New rows are above those on the screen, or on a newer page.
  function showNewer(rows) {
    if (rows > 0 && (older() || scrollY > SCROLLED)) newest.rows += rows;
    find("#newest").textContent = `${newest.rows} newer`;
    find("#newest").hidden = !newest.rows;
  }

  function toNewest() {
    newest.rows = 0;
    find("#newest").hidden = true;
    const query = new URLSearchParams(location.search);
    query.delete("before");
    if (older()) location.assign(`${location.pathname}${query.size ? `?${query}` : ""}`);
    else scrollTo({ top: 0 });
  }

  // --- Filters ------------------------------------------------------------------------------------

  function filtersFrom(form) {
    const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value !== ""));
    return `${form.action}${query.size ? `?${query}` : ""}`;
  }

  async function applyFilters(form) {
    const before = document.body.dataset.stream;
    history.replaceState(null, "", filtersFrom(form));
    remember();
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

  // The list of records, for the way back from one of them.
  function remember() {
    if (location.pathname === "/") sessionStorage.setItem("stream", location.search);
    for (const link of findAll('.crumbs a[href="/"]')) link.href = `/${sessionStorage.getItem("stream") ?? ""}`;
  }

  // --- Small things -------------------------------------------------------------------------------

  function unhideCopy() {
    for (const button of findAll(".copy")) button.hidden = !navigator.clipboard;
  }

  document.addEventListener("click", async (event) => {
    const copy = event.target.closest(".copy");
    if (!copy) return;
    const { copyText, copyAddress } = copy.dataset;
    const text = copyText ?? (copyAddress === undefined ? find(`#${copy.dataset.copy}`).textContent : location.href);
    const done = await navigator.clipboard.writeText(text).then(() => true, () => false);
    const [word, before] = [done ? "Copied" : "Not copied", copy.textContent];
    find("#said").textContent = word;
    copy.classList.toggle("done", done);
    if (before) copy.textContent = word;
    setTimeout(() => {
      find("#said").textContent = "";
      copy.classList.remove("done");
      if (before) copy.textContent = before;
    }, 1500);
  });

  document.addEventListener("submit", (event) => {
    const question = event.submitter?.dataset.confirm;
    if (question && !confirm(question)) event.preventDefault();
  });

  // Pointing at a mark of the timeline lights up its step below, and the other way round.
  function light({ target }) {
    const mark = target.closest('.lane a[href^="#"]');
    const step = target.closest(".steps .row");
    for (const lit of findAll(".lit")) lit.classList.remove("lit");
    if (mark) find(mark.getAttribute("href"))?.classList.add("lit");
    if (step) find(`.lane a[href="#${step.id}"]`)?.classList.add("lit");
  }

  document.addEventListener("mouseover", light);
  document.addEventListener("focusin", light);

  find("#live").hidden = false;
  find("#pause").hidden = !find("[data-live]");
  find("#pause").addEventListener("click", () => pause());
  find("#newest").addEventListener("click", toNewest);
  document.addEventListener("visibilitychange", catchUp);
  document.addEventListener("scroll", () => {
    if (scrollY <= SCROLLED && !older()) {
      newest.rows = 0;
      find("#newest").hidden = true;
    }
  });
  if (find("[data-poll]")) {
    setInterval(() => {
      if (!live.paused && !document.hidden) refresh();
    }, POLL_EVERY);
  }
  if (find("#filters")) listenToFilters(find("#filters"));
  remember();
  unhideCopy();
  connect();
})();
