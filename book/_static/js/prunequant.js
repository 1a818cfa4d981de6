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
  var CARDS = ["verdict", "machine", "numbers compared", "statement", "claims of", "claim", "printed", "status", "decision", "asked", "you want"];
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

  /* The ledger: choose among its rows. What is chosen stands in the address, so that a choice can be sent. */
  var CHOICES = [["part", "part"], ["paper", "paper"], ["verdict", "verdict"], ["wording", "whose words"]];
  function filtered() {
    var marks = Array.from(document.querySelectorAll(".pq-row"));
    if (!marks.length) return;
    var table = marks[0].closest("table");
    var asked = new URLSearchParams(window.location.search);
    var form = document.createElement("form");
    form.className = "pq-filter";
    form.setAttribute("role", "search");
    form.setAttribute("aria-label", "choose among the claims");
    function field(name, label, control) {
      var box = document.createElement("label");
      box.append(label + " ", control);
      control.name = name;
      form.append(box);
      return control;
    }
    var fields = CHOICES.map(function (choice) {
      var select = document.createElement("select");
      var values = [];
      marks.forEach(function (mark) {
        if (values.indexOf(mark.dataset[choice[0]]) < 0) values.push(mark.dataset[choice[0]]);
      });
      [""].concat(values).forEach(function (value) {
        select.add(new Option(value || "all", value, false, value === asked.get(choice[0])));
      });
      return field(choice[0], choice[1], select);
    });
    var text = document.createElement("input");
    text.type = "search";
    text.value = asked.get("text") || "";
    field("text", "text", text);
    var count = document.createElement("output");
    count.setAttribute("aria-live", "polite");
    form.append(count);
    (table.closest(".pst-scrollable-table-container") || table).before(form);

    function apply() {
      var words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
      var shown = 0;
      marks.forEach(function (mark) {
        var row = mark.closest("tr");
        var said = row.textContent.toLowerCase();
        var fits = fields.every(function (select) { return !select.value || mark.dataset[select.name] === select.value; });
        fits = fits && words.every(function (word) { return said.indexOf(word) >= 0; });
        row.hidden = !fits;
        shown += fits ? 1 : 0;
      });
      count.textContent = shown + " of " + marks.length + " claims";
    }
    function remember() {
      var chosen = new URLSearchParams();
      fields.concat(text).forEach(function (control) { if (control.value) chosen.set(control.name, control.value); });
      var query = chosen.toString();
      window.history.replaceState(null, "", (query ? "?" + query : window.location.pathname) + window.location.hash);
    }
    form.addEventListener("input", function () { apply(); remember(); });
    form.addEventListener("submit", function (event) { event.preventDefault(); });
    apply();
  }

  /* A card leads to the proof that follows it before the next card, and the proof back to the card. */
  function proved() {
    var card = null;
    document.querySelectorAll(".bd-content .pq-claim[id], .bd-content div.proof").forEach(function (box) {
      if (box.classList.contains("pq-claim")) {
        card = box;
        return;
      }
      var kinds = ["lemma", "theorem", "proposition", "corollary", "definition", "remark", "example", "observation"];
      if (!card || kinds.some(function (kind) { return box.classList.contains(kind); })) return;
      var links = card.querySelector(".pq-links");
      var place = document.createElement("span");
      place.id = card.id.replace(/^claim-/, "proof-");
      box.before(place);
      var back = document.createElement("a");
      back.href = "#" + card.id;
      back.textContent = "its claim";
      back.className = "pq-links pq-back";
      box.append(back);
      if (links) {
        var forth = document.createElement("a");
        forth.href = "#" + place.id;
        forth.textContent = "its proof";
        links.prepend(forth, " \u00b7 ");
      }
      card = null;
    });
  }

  function start() {
    named();
    proved();
    filtered();
    reachable();
  }
  if (document.readyState === "complete") {
    start();
  } else {
    window.addEventListener("load", start);
  }
  window.addEventListener("resize", reachable);
})();
