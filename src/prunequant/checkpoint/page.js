// Columns sort by the number or word in data-v; without this script the table stays in the order of the file.
for (const table of document.querySelectorAll("table[data-sort]")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") === "descending" || (!head.hasAttribute("aria-sort") && column === 0);
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent;
      const sorted = [...body.rows].map((row) => [value(row), row]);
      const words = sorted.some(([v]) => v !== "" && Number.isNaN(Number(v)));
      const order = words ? (a, b) => a.localeCompare(b, undefined, { numeric: true }) : (a, b) => a - b;
      // A cell without a value comes last in both directions.
      sorted.sort(([a], [b]) => (a === "") - (b === "") || (up ? 1 : -1) * order(a, b));
      body.append(...sorted.map(([, row]) => row));
    });
  });
}
