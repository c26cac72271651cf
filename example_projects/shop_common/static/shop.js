// Buying and refunding are sent by fetch, as a single-page app would; all other forms are plain posts.
"use strict";

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("[data-fetch]")) return;
  event.preventDefault();

  const button = form.querySelector("button");
  const status = form.querySelector("[role=status]");
  button.disabled = true;
  try {
    const response = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
    if (!response.ok) throw new Error(`the shop answered ${response.status}`);
    location.assign((await response.json()).next);
  } catch (error) {
    status.textContent = `That did not work: ${error.message}.`;
    button.disabled = false;
  }
});
