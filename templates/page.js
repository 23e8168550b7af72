(function () {
  "use strict";
  var doc = document, root = doc.documentElement;
  function generated() { return Date.parse(root.getAttribute("data-generated")); }
  function staleAfter() { return Number(root.getAttribute("data-stale-after")) * 1000; }
  var units = [["year", 31536e6], ["month", 2592e6], ["day", 864e5], ["hour", 36e5], ["minute", 6e4], ["second", 1e3]];
  var format = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "long" });
  function relative(at) {
    var distance = at - Date.now();
    for (var i = 0; i < units.length; i++) {
      if (Math.abs(distance) >= units[i][1] || i === units.length - 1) {
        return format.format(Math.trunc(distance / units[i][1]), units[i][0]);
      }
    }
  }
  function tick() {
    doc.querySelectorAll("time[data-relative]").forEach(function (time) {
      var at = Date.parse(time.getAttribute("datetime"));
      if (!time.hasAttribute("title")) { time.setAttribute("title", time.textContent); }
      time.textContent = relative(at);
    });
    var stale = Date.now() - generated() > staleAfter();
    var banner = doc.getElementById("stale");
    if (banner && stale) { doc.getElementById("stale-age").textContent = relative(generated()); }
    if (banner && banner.hidden === stale) {
      banner.hidden = !stale;
      root.classList.toggle("is-stale", stale);
      doc.title = stale ? "Out of date: " + doc.title : doc.title.replace(/^Out of date: /, "");
    }
  }
  function renew() {
    if (doc.hidden || !/^http/.test(location.protocol)) { return; }
    fetch(location.href, { cache: "no-store", credentials: "same-origin" }).then(function (response) {
      return response.ok ? response.text() : null;
    }).then(function (text) {
      if (!text) { return; }
      var fresh = new DOMParser().parseFromString(text, "text/html");
      var made = fresh.documentElement.getAttribute("data-generated");
      if (!made || made === root.getAttribute("data-generated")) { return; }
      root.setAttribute("data-generated", made);
      ["page-header", "page-main"].forEach(function (id) {
        var now = doc.getElementById(id), next = fresh.getElementById(id);
        if (now && next) { now.replaceWith(doc.adoptNode(next)); }
      });
      doc.title = fresh.title;
      root.classList.remove("is-stale");
      filter();
      tick();
    }).catch(function () { /* The banner says it once the page is too old. */ });
  }
  function filter() {
    var box = doc.getElementById("filter");
    if (!box) { return; }
    box.hidden = false;
    var input = box.querySelector("input"), none = doc.getElementById("filter-none");
    if (filter.text) { input.value = filter.text; }
    function apply() {
      filter.text = input.value.trim().toLowerCase();
      var shown = 0;
      doc.querySelectorAll("[data-name]").forEach(function (row) {
        var match = row.getAttribute("data-name").toLowerCase().indexOf(filter.text) >= 0;
        row.hidden = !match;
        if (match) { shown++; }
      });
      none.hidden = shown > 0;
    }
    input.addEventListener("input", apply);
    apply();
  }
  doc.addEventListener("click", function (event) {
    var button = event.target.closest ? event.target.closest("button.copy") : null;
    if (!button || !navigator.clipboard) { return; }
    navigator.clipboard.writeText(button.previousElementSibling.textContent).then(function () {
      button.textContent = "Copied";
      setTimeout(function () { button.textContent = "Copy"; }, 1500);
    });
  });
  root.classList.add("has-script");
  filter();
  tick();
  setInterval(tick, 10000);
  setInterval(renew, 60000);
  doc.addEventListener("visibilitychange", function () { if (!doc.hidden) { tick(); renew(); } });
})();
