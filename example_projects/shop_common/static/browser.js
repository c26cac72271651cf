// Plays the browser scripts of SessionSight and Signal, as far as a server can notice them:
//
//   SessionSight   the cookies ss_vid (the visitor, for a year) and ss_sid (this page load's session)
//   Signal         three headers on fetch to our own origin; page loads and form posts cannot carry headers
//
// Saytics and Analyse.net keep their ids inside the browser, where no server sees them.
"use strict";

(() => {
  const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
  const YEAR = 31536000;

  // --- SessionSight --------------------------------------------------------------------------------

  const readCookie = (name) => {
    const pair = document.cookie.split("; ").find((cookie) => cookie.startsWith(`${name}=`));
    return pair?.slice(name.length + 1);
  };

  const writeCookie = (name, value, lifetime = "") => {
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `${name}=${value}; Path=/; SameSite=Lax${lifetime}${secure}`;
  };

  // Whoever asks not to be tracked gets a visitor id for this page only, and no cookie that outlives it.
  const mayRemember = navigator.doNotTrack !== "1" && !navigator.globalPrivacyControl;

  const known = [readCookie("ss_vid"), localStorage.getItem("sessionsight_visitor_id")];
  const visitor = (mayRemember && known.find((id) => UUID.test(id ?? ""))) || crypto.randomUUID();
  if (mayRemember) {
    writeCookie("ss_vid", visitor, `; Max-Age=${YEAR}`);
    localStorage.setItem("sessionsight_visitor_id", visitor);
  }

  // Every page load is a session of its own. Tabs share the cookie, so the one in front writes it again.
  const session = crypto.randomUUID();
  const writeSession = () => writeCookie("ss_sid", encodeURIComponent(session));
  writeSession();
  window.addEventListener("focus", writeSession);
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") writeSession();
  });

  // --- Signal --------------------------------------------------------------------------------------

  const keep = (storage, name) => {
    const id = storage.getItem(name) ?? crypto.randomUUID();
    storage.setItem(name, id);
    return id;
  };

  const signal = {
    "x-signal-session-id": keep(sessionStorage, "signal_session_id"),
    "x-signal-window-id": keep(sessionStorage, "signal_window_id"),
    "x-signal-distinct-id": keep(localStorage, "signal_distinct_id"),
  };

  const plainFetch = window.fetch;
  window.fetch = (resource, options) => {
    const request = new Request(resource, options);
    if (new URL(request.url).origin === location.origin) {
      for (const [name, id] of Object.entries(signal)) request.headers.set(name, id);
    }
    return plainFetch(request);
  };

  // --- For the curious: the ids, at the foot of each page ------------------------------------------

  document.addEventListener("DOMContentLoaded", () => {
    const ids = { ss_vid: visitor, ss_sid: session, ...signal };
    for (const [name, id] of Object.entries(ids)) {
      const place = document.querySelector(`[data-id="${name}"]`);
      if (place) place.textContent = id;
    }
  });
})();
