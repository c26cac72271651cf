// Single-key shortcuts, and the dialog that lists them. It can switch them off for people who press keys unintentionally,
// for instance by speech input.
"use strict";

(() => {
  const find = (selector, root = document) => root.querySelector(selector);
  const help = find("#help");
  const areOn = () => localStorage.getItem("keys") !== "off";

  function move(step) {
    const neighbour = find(`.neighbours a[rel=${step > 0 ? "next" : "prev"}]`);
    if (find(".neighbours")) {
      neighbour?.click();
      return;
    }
    const rows = [...document.querySelectorAll("a[data-row]")];
    const row = document.activeElement?.closest(".row, .tile");
    const at = rows.findIndex((link) => row?.contains(link));
    const target = rows[at < 0 ? 0 : Math.min(Math.max(at + step, 0), rows.length - 1)];
    target?.focus();
    target?.closest(".row, .tile").scrollIntoView({ block: "nearest" });
  }

  function toNewest() {
    if (find("#records")) find("#newest").click();
    else location.assign("/");
  }

  const keys = {
    "/": () => (find("#search") ? find("#search").select() : location.assign("/#search")),
    j: () => move(1),
    k: () => move(-1),
    u: () => find(".crumbs a")?.click(),
    g: toNewest,
    p: () => find("#pause").click(),
    "?": () => help.showModal(),
  };

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input:not([type=radio], [type=checkbox]), select, textarea");
    if (event.key === "Escape" && typing) typing.blur();
    if (typing || help.open || !areOn() || event.ctrlKey || event.metaKey || event.altKey) return;
    if (!Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
  });

  find("#keys").hidden = false;
  find("#keys").addEventListener("click", () => help.showModal());
  find("#keys-on").checked = areOn();
  find("#keys-on").addEventListener("change", ({ target }) => localStorage.setItem("keys", target.checked ? "on" : "off"));
  if (location.hash === "#search") find("#search")?.focus();
})();
