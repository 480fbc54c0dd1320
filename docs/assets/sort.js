// A click on the head of a table's column, or Enter, sorts its rows: numbers from the largest, texts from A, empty cells last.
for (const head of document.querySelectorAll("table.docutils > thead th")) {
  const textOf = row => {
    const cell = row.cells[head.cellIndex], title = cell.querySelector(".title");
    return cell.textContent.replace(title ? title.textContent : "", "").trim();
  };
  const sort = () => {
    const body = head.closest("table").tBodies[0], rows = [...body.rows];
    const isNumeric = rows.every(row => !/^[^\d-]/.test(textOf(row)));
    const isAgain = head.ariaSort === (isNumeric ? "descending" : "ascending");
    const compare = (a, b) => isNumeric ? parseFloat(b) - parseFloat(a) : a.localeCompare(b);
    rows.sort((x, y) => {
      const [a, b] = [textOf(x), textOf(y)];
      return (a === "") - (b === "") || (isAgain ? -1 : 1) * compare(a, b) || 0;
    });
    for (const other of head.parentNode.cells) other.ariaSort = null;
    head.ariaSort = isNumeric !== isAgain ? "descending" : "ascending";
    body.append(...rows);
  };
  head.tabIndex = 0;
  head.style.cursor = "pointer";
  head.title = "sort";
  head.onclick = sort;
  head.onkeydown = event => { if (event.key === "Enter") sort(); };
}
