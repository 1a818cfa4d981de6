/* Small things every page shares. No dependency, no network. */
(function () {
  "use strict";

  /* A scrolling box that the keyboard cannot reach hides its right edge from those who use no mouse. */
  function reachable() {
    document.querySelectorAll(".pst-scrollable-table-container, div.cell_output, div.highlight pre").forEach(function (box) {
      if (box.scrollWidth > box.clientWidth + 1 && !box.hasAttribute("tabindex")) {
        box.setAttribute("tabindex", "0");
        box.setAttribute("role", "region");
        box.setAttribute("aria-label", "wider than the page: scroll sideways");
      }
    });
  }

  /* A narrow screen shows each row of these tables as a card (css); its lines need the names of their columns. */
  var CARDS = ["verdict", "machine", "numbers compared"];
  function named() {
    document.querySelectorAll(".bd-content table.table").forEach(function (table) {
      var heads = Array.from(table.querySelectorAll("thead th"), function (cell) { return cell.textContent.trim(); });
      if (CARDS.indexOf(heads[0]) < 0) return;
      table.classList.add("pq-summary");
      table.querySelectorAll("tbody tr").forEach(function (row) {
        Array.from(row.cells).forEach(function (cell, i) { cell.dataset.head = heads[i] || ""; });
      });
    });
  }

  /* Inline mathematics is a box of its own, so a line could begin with the comma that follows it: keep the two together. */
  function together() {
    document.querySelectorAll("mjx-container:not([display])").forEach(function (box) {
      var next = box.nextSibling;
      var found = next && next.nodeType === Node.TEXT_NODE && /^[.,;:!?)\]\u2019\u201d-]+/.exec(next.data);
      if (!found) return;
      var span = document.createElement("span");
      span.style.whiteSpace = "nowrap";
      box.parentNode.insertBefore(span, box);
      span.append(box, found[0]);
      next.data = next.data.slice(found[0].length);
    });
  }
  window.addEventListener("load", function () {
    if (window.MathJax && MathJax.startup && MathJax.startup.promise) MathJax.startup.promise.then(together);
  });

  function start() {
    named();
    reachable();
  }
  if (document.readyState === "complete") {
    start();
  } else {
    window.addEventListener("load", start);
  }
  window.addEventListener("resize", reachable);
})();
