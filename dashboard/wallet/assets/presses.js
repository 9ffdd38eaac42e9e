// SPDX-License-Identifier: Apache-2.0
// A press goes down and comes up, and Streamlit may draw the page anew in between: the button is
// then another element or lies elsewhere, and the browser makes no click of it. Here it still counts.

// What a still hand may slip by.
const SLIP_PX = 8;
// How long a button may be away while the page is drawn.
const AWAY_MS = 4_000;

const buttons = new Set();
let down = null;
let late = null;

/** Makes a button known. Returns how to end that. */
export function add(button) {
  buttons.add(button);
  const { action } = button;
  action.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button !== 0) return;
    const { key, label } = button.data;
    down = { pointer: event.pointerId, x: event.clientX, y: event.clientY, action, key, label };
  });
  action.addEventListener("click", (event) => {
    // Of a key's click nothing went before; of a pointer's we know what was read then.
    const meant = event.detail > 0 && down?.action === action ? down.label : button.data.label;
    down = null;
    button.press(meant);
  });
  return () => buttons.delete(button);
}

/** A button is drawn: takes up the press that was under way when it went. */
export function drawn(button) {
  if (late?.key !== button.data.key) return;
  const { label, until } = late;
  late = null;
  if (Date.now() < until) button.press(label);
}

function up(event) {
  if (!down || event.pointerId !== down.pointer) return;
  const { action, key, label, x, y } = down;
  const path = event.composedPath();
  if (action.isConnected && path.includes(action)) return;
  down = null;
  if (Math.hypot(event.clientX - x, event.clientY - y) > SLIP_PX) return;
  const now = [...buttons].find((one) => one.data?.key === key && one.action.isConnected);
  if (now) now.press(label);
  else late = { key, label, until: Date.now() + AWAY_MS };
}

const forget = () => {
  down = null;
};

window.addEventListener("pointerup", up, true);
window.addEventListener("pointercancel", forget, true);
