"use strict";
(() => {
  const data = JSON.parse(document.getElementById("charts").textContent);
  const places = [...document.querySelectorAll("[data-figure]")];
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const buttons = [...document.querySelectorAll("[data-ground-choice]")];
  const views = new Map();
  let choice = "auto";
  let drawn = null;

  const ground = () => (choice === "auto" ? (prefersDark.matches ? "dark" : "light") : choice);

  async function draw(place, config) {
    const name = place.dataset.figure;
    const controls = document.getElementById("controls-" + name);
    const signals = views.has(name) ? kept(views.get(name)) : {};
    if (views.has(name)) views.get(name).finalize();
    controls.replaceChildren();
    try {
      const result = await vegaEmbed(place, data.figures[name], { actions: false, renderer: "svg", config, bind: controls, tooltip: { theme: "custom" } });
      views.set(name, result.view);
      for (const [signal, value] of Object.entries(signals)) result.view.signal(signal, value);
      await result.view.runAsync();
    } catch (error) {
      place.textContent = "This chart could not be drawn; its numbers are in the table below.";
      place.closest("figure").querySelector("details")?.setAttribute("open", "");
      console.error(name, error);
    }
  }

  const chosen = ["source", "layer_shown", "language_shown"];
  const kept = (view) => Object.fromEntries(Object.entries(view.getState({ signals: (name) => chosen.includes(name), data: () => false }).signals));

  async function drawAll(wanted) {
    if (drawn === wanted) return;
    drawn = wanted;
    document.documentElement.dataset.ground = wanted;
    for (const place of places) {
      if (drawn !== wanted) return;
      await draw(place, data[wanted]);
    }
    if (drawn === wanted) document.documentElement.dataset.drawn = wanted;
  }

  // A figure is saved as it is shown, its numbers as CSV; nothing leaves the page, the file is made in it.
  for (const place of document.querySelectorAll("[data-save]")) {
    const name = place.dataset.save;
    const title = place.closest("figure").querySelector("h3").textContent;
    const make = {
      SVG: async () => "data:image/svg+xml;charset=utf-8," + encodeURIComponent(await views.get(name).toSVG()),
      PNG: async () => views.get(name).toImageURL("png", 2),
      CSV: async () => "data:text/csv;charset=utf-8," + encodeURIComponent(numbers(data.figures[name].datasets)),
    };
    for (const kind of Object.keys(make)) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = kind;
      button.setAttribute("aria-label", `Save “${title}” as ${kind}`);
      button.addEventListener("click", async () => {
        const link = document.createElement("a");
        link.download = `${name}.${kind.toLowerCase()}`;
        link.href = await make[kind]();
        link.click();
      });
      place.append(button);
    }
    place.prepend("Save as ");
  }
  // The same rows as `report --figures` writes: every row of every data set of the chart.
  function numbers(sets) {
    const several = Object.keys(sets).length > 1;
    const rows = Object.entries(sets).flatMap(([set, own]) => own.map((row) => (several ? { set, ...row } : row)));
    const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
    const cell = (value) => {
      const text = value === null || value === undefined ? "" : String(value);
      const safe = typeof value === "string" && /^[=+@\t\r-]/.test(text) ? "'" + text : text;
      return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
    };
    return [columns, ...rows.map((row) => columns.map((column) => row[column]))].map((line) => line.map(cell).join(",") + "\n").join("");
  }

  // Every table sorts by a click on a column's head: by the number a cell stands for, else by its words.
  for (const table of document.querySelectorAll("[data-sortable]")) {
    const body = table.tBodies[0];
    if (body.rows.length < 3) continue;
    [...table.tHead.rows].at(-1).querySelectorAll("th").forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const rising = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "descending" : !head.classList.contains("number");
        for (const other of table.tHead.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", rising ? "ascending" : "descending");
        body.append(...[...body.rows].sort((a, b) => compare(a.cells[column], b.cells[column], rising ? 1 : -1)));
      });
    });
  }
  function compare(a, b, sign) {
    const [x, y] = [a.dataset.value, b.dataset.value];
    if (x !== undefined && y !== undefined) return sign * (Number(x) - Number(y));
    if (x !== undefined || y !== undefined) return x !== undefined ? -1 : 1; // cells without a number stay last
    return sign * a.textContent.localeCompare(b.textContent);
  }

  for (const button of buttons) {
    button.addEventListener("click", () => {
      choice = button.dataset.groundChoice;
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      drawAll(ground());
    });
  }
  prefersDark.addEventListener("change", () => drawAll(ground()));
  addEventListener("beforeprint", () => {
    // Chromium prints no closed details; a table of hundreds of rows is for the screen and the CSV.
    for (const item of document.querySelectorAll("figure details")) item.open = item.querySelectorAll("tbody tr").length <= 40;
    drawAll("light");
  });
  addEventListener("afterprint", () => drawAll(ground()));

  const links = new Map([...document.querySelectorAll(".toc a")].map((link) => [link.getAttribute("href").slice(1), link]));
  const watcher = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        for (const link of links.values()) link.removeAttribute("aria-current");
        links.get(entry.target.id)?.setAttribute("aria-current", "true");
      }
    },
    { rootMargin: "-15% 0px -75% 0px" },
  );
  for (const section of document.querySelectorAll("main section")) watcher.observe(section);
  drawAll(ground());
})();
