// A stand-in for the vendors' own browser scripts. It does what this shop's server and the inspector can notice of them,
// and no more; in a real shop each vendor's script stands here instead:
//
//   SessionSight   the cookies ss_vid (the visitor, for a year) and ss_sid (this page load's session), goals of the page
//   Signal         page views, clicks and who it is; three headers on fetch to our own origin, which page loads and
//                  form posts cannot carry
//   Saytics        page views, under an id that stays in the browser
//   Analyse.net    page views and who it is, under ids that stay in the browser
//
// Where to send, and the public keys, stand on the page, in #vendors. A vendor that is missing there is sent nothing.
"use strict";

(() => {
  const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
  const YEAR = 31536000; // seconds
  const HALF_AN_HOUR = 1800000; // milliseconds

  const { vendors, user } = JSON.parse(document.getElementById("vendors").textContent);
  const plainFetch = window.fetch;
  const now = () => new Date().toISOString();

  // It outlives the page, as a beacon does. What fails is lost: a visitor is not to notice.
  const post = async (vendor, path, body, headers = {}) => {
    const options = { method: "POST", headers: { "Content-Type": "application/json", ...headers }, keepalive: true };
    try {
      return await plainFetch(vendor.url + path, { ...options, body: JSON.stringify(body) });
    } catch {
      return undefined;
    }
  };

  const keep = (storage, name) => {
    const id = storage.getItem(name) ?? crypto.randomUUID();
    storage.setItem(name, id);
    return id;
  };

  // A session, of all windows together, ends when nothing has happened for half an hour.
  const keepSession = (name) => {
    const quiet = Date.now() - Number(localStorage.getItem(`${name}_ts`));
    if (quiet > HALF_AN_HOUR) localStorage.removeItem(`${name}_id`);
    localStorage.setItem(`${name}_ts`, Date.now());
    return keep(localStorage, `${name}_id`);
  };

  // Each vendor is told once of a visitor who has signed in.
  const isNews = (name) => {
    const news = user !== null && localStorage.getItem(name) !== user;
    if (news) localStorage.setItem(name, user);
    return news;
  };

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

  const reach = async (goalId) => {
    const { sessionsight } = vendors;
    const { key: apiKey, property: propertyId } = sessionsight;
    const asked = { propertyId, clientVisitorId: visitor };
    const answer = await post(sessionsight, "/v1/sdk/visitor/bootstrap", asked, { "x-api-key": apiKey });
    const { visitorId, visitorToken } = answer?.ok ? await answer.json() : {};
    const goal = { goalId, propertyId, amount: 1, sessionId: session, apiKey, visitorId, visitorToken };
    await post(sessionsight, "/v1/sdk/goals/increment", goal);
  };

  // --- Signal --------------------------------------------------------------------------------------

  const signal = {
    "x-signal-session-id": keepSession("signal_session"),
    "x-signal-window-id": keep(sessionStorage, "signal_window_id"),
    "x-signal-distinct-id": user ?? keep(localStorage, "signal_distinct_id"),
  };

  window.fetch = (resource, options) => {
    const request = new Request(resource, options);
    if (new URL(request.url).origin === location.origin) {
      for (const [name, id] of Object.entries(signal)) request.headers.set(name, id);
    }
    return plainFetch(request);
  };

  const tellSignal = (event, properties) => {
    const [sessionId, windowId, distinctId] = Object.values(signal);
    const place = { path: location.pathname, $current_url: location.href };
    const told = { event, distinctId, sessionId, windowId, timestamp: now(), properties: { ...properties, ...place } };
    const { key, project: projectId } = vendors.signal;
    post(vendors.signal, "/v1/capture", { projectId, sentAt: now(), events: [told] }, { Authorization: `Bearer ${key}` });
  };

  if (vendors.signal) {
    if (isNews("signal_identified")) tellSignal("$identify");
    tellSignal("$pageview");
    document.addEventListener("click", ({ target }) => {
      const clicked = target.closest("a, button, summary");
      if (clicked) tellSignal("click", { text: clicked.textContent.trim() });
    });
  }

  // --- Saytics -------------------------------------------------------------------------------------

  if (vendors.saytics) {
    const ids = { anonymousId: keep(localStorage, "saytics_anonymous_id"), userId: user ?? undefined };
    const viewed = { event: "Page View", ...ids, properties: { path: location.pathname }, timestamp: now() };
    post(vendors.saytics, "/v1/events", viewed, { Authorization: `Bearer ${vendors.saytics.key}` });
  }

  // --- Analyse.net ---------------------------------------------------------------------------------

  const tellAnalyse = (...names) => {
    const who = { anonymous_id: keep(localStorage, "analyse_anon_id"), person_id: user ?? undefined };
    const referrer = document.referrer || undefined;
    const page = {
      session_id: keepSession("analyse_session"),
      url: location.href,
      path: location.pathname,
      hostname: location.hostname,
      referrer,
      referrer_domain: referrer ? new URL(referrer).hostname : "",
    };
    const events = names.map((name) => ({ event_name: name, ...who, ...page, timestamp: now(), properties: {} }));
    post(vendors.analyse, "/v1/batch", { publicKey: vendors.analyse.key, events });
  };

  if (vendors.analyse) tellAnalyse(...(isNews("analyse_person_id") ? ["$identify", "pageview"] : ["pageview"]));

  // --- What needs the whole page -------------------------------------------------------------------

  document.addEventListener("DOMContentLoaded", () => {
    const { goal } = document.body.dataset;
    if (goal && vendors.sessionsight) reach(goal);

    // For the curious: the ids, at the foot of each page.
    const ids = { ss_vid: visitor, ss_sid: session, ...signal };
    for (const [name, id] of Object.entries(ids)) {
      const place = document.querySelector(`[data-id="${name}"]`);
      if (place) place.textContent = id;
    }
  });
})();
