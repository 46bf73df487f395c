// What every page does beyond HTML: instants in the viewer's zone, one-time links, tokens of forms, the end of a session.
"use strict";

(() => {
  const zone = new Intl.DateTimeFormat(undefined, { timeZoneName: "short" });
  const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

  // "2026-11-28 09:30:00 UTC" → the viewer's own, with the UTC beside it.
  function showTimes(root) {
    for (const time of root.querySelectorAll("time[datetime]:not([data-shown])")) {
      const moment = new Date(time.dateTime);
      if (Number.isNaN(moment.valueOf())) continue;
      const name = zone.formatToParts(moment).find((part) => part.type === "timeZoneName").value;
      const utc = document.createElement("small");
      utc.textContent = ` (${time.textContent})`;
      time.dataset.shown = "1";
      if (name !== "UTC") time.replaceChildren(`${local.format(moment)} ${name}`, utc);
    }
  }

  function begin(root) {
    showTimes(root);
    if (window.drawCharts) window.drawCharts(root);
  }

  document.addEventListener("DOMContentLoaded", () => {
    begin(document);
    const enter = document.getElementById("enter");
    if (enter && location.hash.length > 1) {
      enter.elements.code.value = location.hash.slice(1);
      history.replaceState(null, "", location.pathname);
      enter.requestSubmit();
    }
  });

  // A connection that is lost is told, until something comes through again.
  function tellLost(isLost) {
    document.getElementById("lost").hidden = !isLost;
  }
  window.addEventListener("offline", () => tellLost(true));
  window.addEventListener("online", () => tellLost(false));
  document.addEventListener("htmx:sendError", () => tellLost(true));
  document.addEventListener("htmx:afterOnLoad", () => tellLost(false));

  document.addEventListener("htmx:configRequest", (event) => {
    const token = document.body.dataset.csrf;
    if (token) event.detail.headers["X-CSRF-Token"] = token;
  });
  document.addEventListener("htmx:afterSettle", (event) => begin(event.detail.elt));
  // A refused request's message is shown like any other answer.
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.xhr.status >= 400) event.detail.shouldSwap = true;
  });
  // Nobody types into a part that is renewed under the hands, nor has a form that was opened closed.
  document.addEventListener("htmx:beforeRequest", (event) => {
    const part = event.detail.elt;
    if (!part.getAttribute("hx-trigger")?.startsWith("changed")) return;
    if (part.contains(document.activeElement) || part.querySelector("details:is(.act, .confirm)[open]")) event.preventDefault();
  });

  // A live page is told that something changed; the parts that listen for it ask anew.
  document.addEventListener("DOMContentLoaded", () => {
    const where = document.body.dataset.live;
    if (!where) return;
    const stream = new EventSource(where);
    stream.addEventListener("open", () => tellLost(false));
    stream.addEventListener("error", () => tellLost(true));
    window.addEventListener("pagehide", () => stream.close());
    stream.addEventListener("changed", () => {
      if (document.visibilityState === "visible") document.body.dispatchEvent(new Event("changed"));
    });
    stream.addEventListener("ended", () => {
      stream.close();
      tellLost(false);
      location.assign(`/console/sign-in?idle=1&next=${encodeURIComponent(location.pathname)}`);
    });
  });
})();
