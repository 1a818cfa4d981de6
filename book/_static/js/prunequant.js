/* Small things every page shares. No dependency, no network. */
(function () {
  "use strict";

  /* A scrolling box that the keyboard cannot reach hides its right edge from those who use no mouse. */
  function reachable() {
    document.querySelectorAll(".pst-scrollable-table-container, div.cell_output, div.highlight pre").forEach(function (box) {
      if (box.scrollWidth > box.clientWidth + 1 && !box.hasAttribute("tabindex")) {
        box.setAttribute("tabindex", "0");
      }
    });
  }

  if (document.readyState === "complete") {
    reachable();
  } else {
    window.addEventListener("load", reachable);
  }
  window.addEventListener("resize", reachable);
})();
