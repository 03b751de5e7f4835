// The page is whole without this: it narrows the list of cases, and opens what a link points at.
"use strict";
const form = document.querySelector(".filter");
const cases = [...document.querySelectorAll(".case")];
function narrow() {
  const words = form.elements.words.value.toLowerCase().split(/\s+/);
  const verdict = form.elements.verdict.value;
  let shown = 0;
  for (const one of cases) {
    const named = words.every(word => one.id.toLowerCase().includes(word));
    one.hidden = !(named && (verdict === "" || one.dataset.verdict === verdict));
    shown += !one.hidden;
  }
  const narrowed = shown < cases.length;
  for (const op of document.querySelectorAll(".op")) {
    op.hidden = !op.querySelector(".case:not([hidden])");
    if (narrowed && !op.hidden) op.open = true;
  }
  form.querySelector("output").textContent = narrowed ? `${shown} of ${cases.length} cases` : "";
}
function reveal() {
  const target = [...document.querySelectorAll("details")].find(one => `#${encodeURI(one.id)}` === location.hash);
  for (let one = target; one; one = one.parentElement.closest("details")) one.open = true;
  target?.scrollIntoView();
}
if (form) {
  form.hidden = false;
  form.addEventListener("input", narrow);
  form.addEventListener("submit", event => event.preventDefault());
}
window.addEventListener("hashchange", reveal);
reveal();
