"use strict";
// Follows a run that goes on: reads /live.json every two seconds, and the page again when the files have changed.
(function () {
  let stamp = null;
  const get = (id) => document.getElementById(id);

  function list(id, lines) {
    get(id).replaceChildren(...lines.map((line) => {
      const item = document.createElement("li");
      item.textContent = line;
      return item;
    }));
  }

  function keep() {
    const values = [...document.querySelectorAll(".filters input, .filters select")].map((field) => [field.form.id, field.name, field.value]);
    const open = [...document.querySelectorAll("#report details")].map((part) => part.open);
    return { values, open, at: window.scrollY };
  }

  function restore(kept) {
    const parts = document.querySelectorAll("#report details");
    if (parts.length === kept.open.length) parts.forEach((part, at) => { part.open = kept.open[at]; });
    for (const [form, name, value] of kept.values) {
      const field = get(form) && get(form).elements[name];
      if (field && value) {
        field.value = value;
        field.dispatchEvent(new Event("input", { bubbles: true }));
      }
    }
    window.scrollTo(0, kept.at);
  }

  async function renew() {
    const text = await (await fetch("/", { cache: "no-store" })).text();
    const fresh = new DOMParser().parseFromString(text, "text/html");
    if (document.activeElement && document.activeElement.closest(".filters, .cards")) return false;
    const kept = keep();
    get("report").replaceWith(document.importNode(fresh.getElementById("report"), true));
    get("records").textContent = fresh.getElementById("records").textContent;
    window.startReport();
    restore(kept);
    return true;
  }

  async function look() {
    try {
      const now = await (await fetch("/live.json", { cache: "no-store" })).json();
      if (get("live-line").textContent !== now.line) get("live-line").textContent = now.line;
      get("live-bar").value = now.share;
      list("live-steps", now.steps);
      list("live-notices", now.notices);
      if (stamp === null) stamp = now.stamp;
      else if (stamp !== now.stamp && await renew()) stamp = now.stamp;
    } catch (error) {
      get("live-line").textContent = "The page's server does not answer; what is shown may be old.";
    }
    setTimeout(look, 2000);
  }

  look();
})();
