// SPDX-License-Identifier: Apache-2.0
// Says what a drawing knows of the place that one points at.
//
// A chart's field carries `data-tips`: what is said of each of its times, in order, parted by empty
// lines. Its times are equally long, unless `data-edges` gives the left edge of each, in percent.
// The map of the grid has `data-spots` instead: where each bus lies, in percent from its left and
// its upper edge. Nothing of this is needed to read a page: a table says the same.

const REACH = 14; // Pixels around a bus within which it is meant.
const AWAY = 14; // Pixels between the pointer and what is said.

const box = made("div", "gc-tip");
const mark = made("i", "gc-mark");
const known = new WeakMap();
let shown = null;

function made(tag, name) {
  const one = document.createElement(tag);
  one.className = name;
  one.setAttribute("aria-hidden", "true");
  one.hidden = true;
  return one;
}

// What a drawing says, taken apart once.
function read(drawing) {
  const text = drawing.dataset.tips;
  let found = known.get(drawing);
  if (found?.text !== text) {
    const pairs = (drawing.dataset.spots ?? "").split(",").map((spot) => spot.split(" ").map(Number));
    const edges = (drawing.dataset.edges ?? "").split(",").map(Number);
    found = { text, tips: text.split("\n\n"), pairs, edges };
    known.set(drawing, found);
  }
  return found;
}

// The time under the pointer, and where its strip lies.
function strip({ tips, edges }, drawing, area, x) {
  const share = (100 * (x - area.left)) / area.width;
  if (!("edges" in drawing.dataset)) {
    const place = Math.min(tips.length - 1, Math.max(0, Math.floor((share / 100) * tips.length)));
    return { place, left: area.left + (place / tips.length) * area.width, top: area.top };
  }
  const place = edges.findLastIndex((edge) => edge <= share);
  return { place, left: area.left + ((edges[place] ?? 0) / 100) * area.width, top: area.top };
}

// The bus next to the pointer.
function spot({ pairs }, area, x, y) {
  let found = { place: -1, far: REACH };
  pairs.forEach(([right, down], place) => {
    const left = area.left + (right / 100) * area.width;
    const top = area.top + (down / 100) * area.height;
    const far = Math.hypot(left - x, top - y);
    if (far < found.far) found = { place, far, left, top };
  });
  return found;
}

function hide() {
  box.hidden = mark.hidden = true;
  shown = null;
}

function point({ target, clientX: x, clientY: y }) {
  const drawing = target instanceof Element ? target.closest("[data-tips]") : null;
  if (!drawing) {
    if (shown) hide();
    return;
  }
  const one = read(drawing);
  const area = drawing.getBoundingClientRect();
  const isMap = "spots" in drawing.dataset;
  const at = isMap ? spot(one, area, x, y) : strip(one, drawing, area, x);
  const words = one.tips[at.place];
  if (!words) {
    hide();
    return;
  }
  if (!box.isConnected) document.body.append(mark, box);
  shown = drawing;
  box.textContent = words;
  box.hidden = mark.hidden = false;
  mark.classList.toggle("spot", isMap);
  mark.style.left = `${at.left}px`;
  mark.style.top = `${at.top}px`;
  mark.style.height = isMap ? "" : `${area.height}px`;
  // Beside the pointer where there is room, and never beyond the window.
  const { offsetWidth: width, offsetHeight: height } = box;
  const fits = x + AWAY + width < window.innerWidth;
  box.style.left = `${fits ? x + AWAY : Math.max(4, x - AWAY - width)}px`;
  box.style.top = `${Math.min(y + AWAY, Math.max(4, window.innerHeight - height - 4))}px`;
}

document.addEventListener("pointermove", point, { passive: true });
document.addEventListener("pointerdown", point, { passive: true });
document.addEventListener("scroll", hide, { passive: true, capture: true });
document.addEventListener("pointerleave", hide, { passive: true });
document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
