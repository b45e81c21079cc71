"use strict";
// Everything shown comes from data: it enters the page through textContent alone.
const PAGE = 20;
const STATUS = [["lost", "bad"], ["gained", "good"], ["kept", "open"], ["wrong in both", "open"]];
const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("item-data").textContent);
const search = byId("search"), category = byId("category"), list = byId("rows"), more = byId("more"), count = byId("count");
let texts = null; // what is searched, made when first needed
let found = [];

function add(parent, tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return parent.appendChild(element);
}

const said = (choices, response) => (typeof response === "number" ? choices[response] : response);

function addSide(parent, model, response, score) {
  const side = add(parent, "div", "side " + (score === 1 ? "good" : score === 0 ? "bad" : "open"));
  const mark = score === 1 ? "✓ right" : score === 0 ? "✕ wrong" : "score " + score.toFixed(2);
  add(side, "small", "", model + " ").append(add(side, "span", "tag", mark));
  add(side, "span", "", response === "" ? "(no answer)" : response);
}

function addItem([id, kind, status, prompt, choices, answer, check, before, after, beforeScore, afterScore, notes]) {
  const item = add(list, "li");
  const head = add(item, "div", "head");
  add(head, "span", "tag " + STATUS[status][1], STATUS[status][0]);
  for (const text of [kind, ...notes]) add(head, "span", "", text);
  add(head, "span", "id", id);
  add(item, "p", "prompt", prompt);
  const sides = add(item, "div", "sides");
  addSide(sides, data.models[0], said(choices, before), beforeScore);
  addSide(sides, data.models[1], said(choices, after), afterScore);
  const offered = choices.map((choice, index) => (index === answer ? "✓\u00a0" : "") + choice);
  if (offered.length) add(item, "p", "rest", "Offered: " + offered.join("  ·  "));
  if (check) add(add(item, "p", "rest", "Rule: "), "code", "", check);
}

function showMore() {
  const start = list.childElementCount;
  for (const index of found.slice(start, start + PAGE)) addItem(data.items[index]);
  more.hidden = list.childElementCount >= found.length;
  if (start) { // a reader with a keyboard or a screen reader goes on where the new items begin
    list.children[start].tabIndex = -1;
    list.children[start].focus({ preventScroll: true });
  }
}

function searchable([id, kind, , prompt, choices, , check, before, after, , , notes]) {
  return [id, kind, prompt, ...choices, check, said(choices, before), said(choices, after), ...notes]
    .join("\n").toLowerCase();
}

function update() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const status = document.querySelector("input[name=status]:checked").value;
  if (words.length && !texts) texts = data.items.map(searchable);
  found = [];
  data.items.forEach((item, index) => {
    if (status !== "all" && item[2] !== Number(status)) return;
    if (category.value !== "" && item[1] !== category.value) return;
    if (words.every((word) => texts[index].includes(word))) found.push(index);
  });
  list.replaceChildren();
  showMore();
  count.textContent = found.length.toLocaleString("en") + (found.length === 1 ? " item" : " items");
}

for (const name of [...new Set(data.items.map((item) => item[1]))].sort()) add(category, "option", "", name).value = name;
search.addEventListener("input", update);
category.addEventListener("change", update);
document.querySelectorAll("input[name=status]").forEach((input) => input.addEventListener("change", update));
more.addEventListener("click", showMore);
byId("search-form").addEventListener("submit", (event) => event.preventDefault());
update();

// On paper nothing can be opened.
const opened = [];
window.addEventListener("beforeprint", () => {
  for (const element of document.querySelectorAll("details:not([open])")) { element.open = true; opened.push(element); }
});
window.addEventListener("afterprint", () => { for (const element of opened.splice(0)) element.open = false; });
