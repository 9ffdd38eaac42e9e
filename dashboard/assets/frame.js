// SPDX-License-Identifier: Apache-2.0
// The menu on top of each page, and the ways from one page to another.
//
// A link to a page of ours is followed as the browser's own Back is: Streamlit hears of it and sends
// that page alone. Without this script it would be loaded whole, which takes longer and is all the
// same otherwise.

const WIDE = window.matchMedia("(min-width: 1101px)");
const script = document.querySelector("script[data-pages]");
const pages = new Set(script.dataset.pages.split(" "));

function menus() {
  return [...document.querySelectorAll(".gc-nav details")];
}

function close(except) {
  for (const one of menus()) if (one !== except) one.open = false;
}

// The whole menu of a narrow window: all its sections lie open, as there is room below.
function unfold(button, open) {
  button.setAttribute("aria-expanded", String(open));
  button.closest(".gc-nav").classList.toggle("open", open);
  for (const one of menus()) one.open = open;
}

function fold() {
  const button = document.querySelector('.gc-burger[aria-expanded="true"]');
  if (button) unfold(button, false);
  else close();
}

// Whether a click asks for nothing but to go there, here.
function plain(event, link) {
  const { button, metaKey, ctrlKey, shiftKey, altKey, defaultPrevented } = event;
  if (button || metaKey || ctrlKey || shiftKey || altKey || defaultPrevented) return false;
  return !link.hasAttribute("download") && link.target !== "_blank";
}

function follow(event, link) {
  const to = new URL(link.href);
  if (to.origin !== location.origin || !pages.has(to.pathname)) return;
  // In another language the page itself is another one; a place on a page is the browser's business.
  if (to.searchParams.has("lang") || to.hash) return;
  event.preventDefault();
  fold();
  history.pushState({}, "", to);
  window.dispatchEvent(new PopStateEvent("popstate"));
  document.querySelector('[data-testid="stMain"]')?.scrollTo(0, 0);
}

document.addEventListener("click", (event) => {
  const target = event.target instanceof Element ? event.target : null;
  const button = target?.closest(".gc-burger");
  if (button) {
    unfold(button, button.getAttribute("aria-expanded") !== "true");
    return;
  }
  const link = target?.closest(".gc a[href]");
  if (link && plain(event, link)) {
    follow(event, link);
    return;
  }
  if (!target?.closest(".gc-nav")) fold();
  else if (WIDE.matches) close(target.closest("details"));
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const opener = document.activeElement?.closest(".gc-nav details")?.querySelector("summary");
  fold();
  opener?.focus();
});

WIDE.addEventListener("change", fold);
