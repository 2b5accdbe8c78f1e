"use strict";
// Two lists with filters over the records in #records. All text goes in by textContent, never as markup.
(function () {
  const PAGE = 25;
  const FOLD = 300;
  const LINES = 8;
  const WORDS = {
    ok: "followed", unfinished: "did not stop", empty: "empty", echo: "echoes the instruction",
    degenerate: "degenerate", repeated: "repeats itself", wrong_answer: "wrong answer", rival_answer: "names a rival answer",
    negated: "negated", hedged: "hedged", candidate_list: "lists candidates", multiple_choice: "multiple choice",
    question_back: "asks back", contradiction: "contradicts itself", extra_text: "says more than asked", not_exact: "not exact",
  };
  const words = (reason) => WORDS[reason] || "fails: " + reason.replace(/_/g, " ");

  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // A text that begins with line feeds shows them, instead of lines that look empty.
  const feeds = (text) => text.replace(/^\n+/, (found) => (found.length > 3 ? "⏎×" + found.length : "⏎".repeat(found.length)) + " ");

  function body(written) {
    const text = feeds(written);
    const short = text.slice(0, FOLD).split("\n").slice(0, LINES).join("\n");
    const pre = element("pre", text ? "" : "empty", text ? short : "(nothing)");
    if (text.length === short.length) return [pre];
    const more = element("button", "", "Show all " + text.length.toLocaleString("en") + " characters");
    more.type = "button";
    more.addEventListener("click", () => {
      pre.textContent = text;
      more.remove();
    });
    pre.append(" …");
    return [pre, more];
  }

  function heading(text) {
    const title = element("h3", "", text.slice(0, FOLD) || "(no instruction)");
    if (text.length > FOLD) title.append(" …");
    return title;
  }

  function tags(record, extra) {
    const row = element("p", "tags");
    for (const [text, kind] of extra) if (text) row.append(element("span", "tag " + (kind || ""), text));
    row.append(element("span", "", record.id));
    return row;
  }

  function itemCard(record, sides) {
    const card = element("article", "card");
    const flips = record.f.flip.map((flip) => [flip, flip.startsWith("gained") ? "up" : flip.startsWith("lost") ? "down" : ""]);
    card.append(heading(record.title));
    card.append(tags(record, [[record.f.type[0]], [record.f.difficulty[0]], [record.f.skill[0].replace(/_/g, " ")], ...flips]));
    if (record.wanted) card.append(element("p", "wanted", record.wanted));
    const texts = element("div", "texts");
    record.s.forEach(([text, ok, reason, firstOk, firstReason], at) => {
      const byLine = sides[at] === "Best prompted base";
      const [good, why] = byLine ? [firstOk, firstReason] : [ok, reason];
      const box = element("div", "text " + (good ? "yes" : "no"));
      box.append(element("p", "", sides[at] + (byLine ? ", first line" : "")));
      box.append(element("p", "verdict", (good ? "✓ " : "✗ ") + words(why)));
      if (!byLine && firstOk !== ok) box.append(element("p", "", "first line: " + words(firstReason)));
      box.append(...body(text));
      texts.append(box);
    });
    card.append(texts);
    return card;
  }

  // What an answer does with the principles, in one line for each verdict: [as it should be, what is said].
  function principleVerdicts(record, answer) {
    const lines = [];
    for (const applies of [true, false]) {
      for (const obeys of [true, false]) {
        const ids = Object.keys(answer.h).filter((id) => record.applies[id] === applies && answer.h[id] === obeys);
        const ending = applies ? "" : ids.length > 1 ? ", which do not apply" : ", which does not apply";
        if (ids.length) lines.push([obeys === applies, (obeys ? "obeys " : "does not obey ") + ids.join(", ") + ending]);
      }
    }
    return lines;
  }

  function promptCard(record, arms) {
    const card = element("article", "card");
    const changes = record.f.change.filter((change) => change !== "unchanged");
    card.append(heading(record.title));
    card.append(tags(record, [[record.f.split[0]], [record.f.kind[0].replace(/_/g, " ")],
      ...changes.map((change) => ["trained: " + change, ""])]));
    const texts = element("div", "texts");
    record.a.forEach((answer, at) => {
      const verdicts = principleVerdicts(record, answer);
      const box = element("div", "text " + (!verdicts.length ? "" : verdicts.every(([good]) => good) ? "yes" : "no"));
      box.append(element("p", "", arms[at]));
      for (const [good, said] of verdicts) box.append(element("p", "verdict " + (good ? "up" : "down"), (good ? "✓ " : "✗ ") + said));
      const lost = Object.keys(answer.h).filter((id) => answer.h[id] && !answer.s[id]);
      if (lost.length) box.append(element("p", "", "to its end not " + lost.join(", ") + (answer.finished ? "" : ": did not stop")));
      box.append(...body(answer.text));
      texts.append(box);
    });
    card.append(texts);
    return card;
  }

  // The two filters of the prompts that depend on each other: an arm, and its verdict on the chosen principle or on all.
  function verdictMatches(record, form) {
    const verdict = form.elements.verdict.value;
    const answer = record.a[Number(form.elements.arm.value)];
    if (!verdict || !answer) return true;
    const chosen = form.elements.principle.value;
    const ids = Object.keys(answer.h).filter((id) => !chosen || id === chosen);
    if (!ids.length) return false;
    if (verdict === "yes") return ids.every((id) => answer.h[id]);
    if (verdict === "no") return ids.some((id) => !answer.h[id]);
    if (verdict === "strict") return ids.every((id) => answer.s[id]);
    return ids.every((id) => answer.h[id] === record.applies[id]);
  }

  function pairCard(record) {
    const card = element("article", "card");
    card.append(heading(record.title));
    const revision = record.f.revision[0];
    card.append(tags(record, [
      [record.kept ? "pair" : "dropped: " + record.f.outcome[0].replace(/_/g, " "), record.kept ? "up" : "down"],
      [(record.f.type || record.f.kind)[0].replace(/_/g, " ")], [record.label && "labelled by " + record.label], [record.source && "chosen is a " + record.source],
      [revision && "revision: " + revision, revision === "broken" ? "down" : revision === "fixed" ? "up" : ""],
    ]));
    if (record.principle[0]) card.append(element("p", "wanted", "principle " + record.principle.filter(Boolean).join(": ")));
    const outcome = ["Chosen", "Rejected"];
    for (const first of [true, false]) {
      const texts = element("div", "texts");
      for (const [name, text] of record.t) {
        if (outcome.includes(name) !== first) continue;
        const box = element("div", "text " + (name === "Chosen" ? "yes" : name === "Rejected" ? "no" : ""));
        box.append(element("p", "verdict", name), ...body(text));
        texts.append(box);
      }
      if (texts.children.length) card.append(texts);
    }
    return card;
  }

  function textOf(record) {
    const parts = record.s ? record.s.map((side) => side[0]) : record.a ? record.a.map((answer) => answer.text)
      : record.t.map((pair) => pair[1]);
    return [record.id, record.title, record.wanted || "", ...parts].join("\n").toLowerCase();
  }

  function fill(select, records) {
    const counts = new Map();
    for (const record of records) for (const value of record.f[select.name] || []) counts.set(value, (counts.get(value) || 0) + 1);
    for (const [value, count] of [...counts].sort((a, b) => b[1] - a[1])) {
      const label = select.name === "reason" ? words(value) : value.replace(/_/g, " ");
      select.append(new Option(label + " (" + count + ")", value));
    }
  }

  function browse(id, records, card, total, matches) {
    const form = document.getElementById(id + "-filters");
    if (!form) return;
    const cards = document.getElementById(id + "-cards");
    const count = document.getElementById(id + "-count");
    const more = document.getElementById(id + "-more");
    const searched = records.map(textOf);
    const selects = [...form.querySelectorAll("select[data-filled]")];
    selects.forEach((select) => fill(select, records));
    selects.forEach((select) => { select.parentElement.hidden = select.options.length < 3; });
    let found = [];
    let shown = 0;

    function showMore() {
      const part = document.createDocumentFragment();
      for (const at of found.slice(shown, shown + PAGE)) part.append(card(records[at]));
      cards.append(part);
      shown = Math.min(found.length, shown + PAGE);
      more.hidden = shown >= found.length;
      const all = total > records.length ? " (the page holds " + records.length + " of " + total + ")" : "";
      count.textContent = found.length + " of " + records.length + " match; " + shown + " shown" + all;
    }

    function update() {
      const wanted = form.elements.search.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
      const chosen = selects.filter((select) => select.value);
      found = [];
      records.forEach((record, at) => {
        if (chosen.every((select) => (record.f[select.name] || []).includes(select.value))
          && wanted.every((word) => searched[at].includes(word)) && (!matches || matches(record, form))) found.push(at);
      });
      const order = form.elements.order;
      if (order && order.value === "id") found.sort((a, b) => (records[a].id < records[b].id ? -1 : 1));
      cards.replaceChildren();
      shown = 0;
      showMore();
    }

    form.addEventListener("input", update);
    form.addEventListener("reset", () => setTimeout(update));
    form.addEventListener("submit", (event) => event.preventDefault());
    more.addEventListener("click", () => {
      const next = cards.children.length;
      showMore();
      const target = cards.children[next];
      if (target) { target.tabIndex = -1; target.focus(); }
    });
    update();
  }

  function start() {
    const data = JSON.parse(document.getElementById("records").textContent);
    if (data.items) browse("items", data.items, (record) => itemCard(record, data.sides), data.there.items);
    if (data.prompts) browse("prompts", data.prompts, (record) => promptCard(record, data.sides), data.there.items, verdictMatches);
    if (data.pairs) browse("pairs", data.pairs, pairCard, data.there.pairs + data.there.dropped);
  }

  window.startReport = start;
  start();
  window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
})();
