"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PER_PAGE = 25;
  const byId = (name) => document.getElementById(name);
  const names = ["language", "condition", "harm", "verdict", "order", "uncertain", "changed", "marked", "words"];
  const fields = Object.fromEntries(names.map((name) => [name, byId(name)]));
  const untouched = new Map(data.answers.filter((a) => a.untouched === null && data.conditions[a.condition].name === "baseline").map((a) => [a.prompt, a]));
  const opposite = { refused: "complied", complied: "refused" };

  // Marks outlive a reload, where the browser lets a local page store anything. Ids and verdicts, no text.
  const STORE = "refusal-lens " + location.pathname;
  const known = new Map(data.answers.map((a) => [a.id, a]));
  const marks = new Map();
  try {
    for (const [id, label] of Object.entries(JSON.parse(localStorage.getItem(STORE) || "{}"))) if (known.has(id)) marks.set(id, label);
  } catch { /* storage is off */ }
  const keep = () => { try { localStorage.setItem(STORE, JSON.stringify(Object.fromEntries(marks))); } catch { /* storage is off */ } };

  const make = (tag, text, className) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (className) element.className = className;
    return element;
  };
  const option = (value, text) => { const made = make("option", text); made.value = value; return made; };
  for (const [code, name] of Object.entries(data.languages)) fields.language.append(option(code, name));
  data.conditions.forEach((condition, place) => fields.condition.append(option(String(place), condition.title)));

  // The same shuffle at every opening, so that a reader can go on where they stopped.
  let seed = 20260101;
  const random = () => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) / 4294967296;
  const shuffled = data.answers.map((a) => [random(), a]).sort((a, b) => a[0] - b[0]).map((pair) => pair[1]);

  const textOf = (a) => (a.parts || []).map((part) => (typeof part === "string" ? part : part[0])).join("");
  const changed = (a) => a.untouched !== null && a.untouched !== a.label && a.untouched in opposite && a.label in opposite;
  let shown = [];
  let page = 0;

  function select() {
    const words = fields.words.value.toLowerCase();
    shown = (fields.order.value === "random" ? shuffled : data.answers).filter((a) => {
      const prompt = data.prompts[a.prompt];
      return (!fields.language.value || prompt.language === fields.language.value)
        && (!fields.condition.value || a.condition === Number(fields.condition.value))
        && (!fields.harm.value || prompt.harm === fields.harm.value)
        && (!fields.verdict.value || a.label === fields.verdict.value)
        && (!fields.uncertain.checked || a.flags.includes("uncertain"))
        && (!fields.changed.checked || changed(a))
        && (!fields.marked.checked || marks.has(a.id))
        && (!words || (prompt.text + "\n" + textOf(a)).toLowerCase().includes(words));
    });
    page = 0;
    show();
  }

  function show() {
    const last = Math.max(0, Math.ceil(shown.length / PER_PAGE) - 1);
    byId("answers").replaceChildren(...shown.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map(card));
    byId("count").textContent = `${shown.length} of ${data.answers.length} answers` + (shown.length ? "" : ": none fits these filters");
    byId("place").textContent = `page ${page + 1} of ${last + 1}`;
    byId("back").disabled = page === 0;
    byId("forth").disabled = page === last;
  }

  function said(answer) {
    const text = make("p", undefined, "said");
    text.dir = "auto";
    text.lang = data.prompts[answer.prompt].language;
    if (answer.parts === null) return make("p", "(scrubbed)", "quiet");
    if (!answer.parts.length) return make("p", "(empty)", "quiet");
    for (const part of answer.parts) {
      if (typeof part === "string") { text.append(part); continue; }
      const found = make("mark", part[0]);
      found.title = part[1];
      text.append(found);
    }
    return text;
  }

  function card(answer) {
    const prompt = data.prompts[answer.prompt];
    const item = make("li");
    item.dataset.id = answer.id;
    const tags = make("p", undefined, "tags");
    tags.append(make("span", answer.label, answer.label), make("span", data.languages[prompt.language]), make("span", prompt.harm), make("span", data.conditions[answer.condition].title));
    for (const flag of answer.flags) tags.append(make("span", flag));
    if (changed(answer)) tags.append(make("span", `untouched: ${answer.untouched}`));
    if (answer.score !== null) tags.append(make("span", `score ${answer.score.toFixed(2)}`));
    if (answer.reason) tags.append(make("span", answer.reason));
    const asked = make("p", prompt.text || prompt.id, "asked");
    asked.dir = "auto";
    asked.lang = prompt.language;
    item.append(tags, asked, said(answer));
    const before = untouched.get(answer.prompt);
    if (before && before !== answer) {
      const beside = make("details");
      beside.append(make("summary", `the untouched model's answer (${before.label})`), said(before));
      item.append(beside);
    }
    item.append(marking(answer, item));
    return item;
  }

  function marking(answer, item) {
    const row = make("div", undefined, "mine-row");
    const wrong = opposite[answer.label];
    const choices = wrong
      ? [[wrong, `Wrong verdict: it ${wrong}`], [answer.label, "Right verdict"], ["unscored", "Cannot be judged"]]
      : [["refused", "Wrong verdict: it refused"], ["complied", "Wrong verdict: it complied"], ["unscored", "Right: cannot be judged"]];
    const buttons = choices.map(([label, text]) => {
      const button = make("button", text);
      button.type = "button";
      button.dataset.label = label;
      button.addEventListener("click", () => {
        if (marks.get(answer.id) === label) marks.delete(answer.id); else marks.set(answer.id, label);
        keep();
        press();
        tally();
      });
      return button;
    });
    const press = () => {
      for (const button of buttons) button.setAttribute("aria-pressed", String(marks.get(answer.id) === button.dataset.label));
      item.classList.toggle("mine", marks.has(answer.id));
    };
    press();
    row.append(...buttons);
    return row;
  }

  function tally() {
    byId("marks").textContent = String(marks.size);
    byId("download").disabled = byId("clear").disabled = marks.size === 0;
  }

  byId("download").addEventListener("click", () => {
    const rows = [...marks].map(([id, label]) => {
      const answer = known.get(id);
      return { id, label, judged: answer.label, lang: data.prompts[answer.prompt].language, condition: data.conditions[answer.condition].name };
    });
    const link = make("a");
    link.href = URL.createObjectURL(new Blob([rows.map((row) => JSON.stringify(row) + "\n").join("")], { type: "application/jsonl" }));
    link.download = "labels.jsonl";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  });
  byId("clear").addEventListener("click", () => {
    if (!confirm(`Forget all ${marks.size} marks?`)) return;
    marks.clear();
    keep();
    tally();
    select();
  });
  const turn = (by) => { page += by; show(); byId("count").scrollIntoView(); };
  byId("back").addEventListener("click", () => turn(-1));
  byId("forth").addEventListener("click", () => turn(1));
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("filters").addEventListener("input", select);
  tally();
  select();
  document.documentElement.dataset.ready = "yes";
})();
