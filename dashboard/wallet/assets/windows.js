// SPDX-License-Identifier: Apache-2.0
// The windows that open over the page. They have a corner of the page to themselves: a button may be
// folded away, or drawn anew by Streamlit at any moment, and a window in it would go unseen or vanish.

import { dressed, element } from "./parts.js";

// What wallet.css takes from Streamlit's theme for a window.
const THEME = [
  "background-color",
  "base-radius",
  "border-color",
  "button-radius",
  "code-background-color",
  "font",
  "heading-font",
  "primary-color",
  "secondary-background-color",
  "text-color",
  "yellow-background-color",
];

const corner = element("div");
const root = corner.attachShadow({ mode: "open" });
const sheet = new URL("wallet.css", import.meta.url).href;
root.append(element("link", { rel: "stylesheet", href: sheet }));
document.body.append(corner);

let dialogs = 0;

/** Gives windows the colours that a button's box has now. */
export function dress(box) {
  const style = getComputedStyle(box);
  corner.style.colorScheme = style.colorScheme;
  for (const name of THEME) {
    corner.style.setProperty(`--st-${name}`, style.getPropertyValue(`--st-${name}`));
  }
}

/** A modal dialog with a heading. Escape closes it; the focus returns to where it was. */
export function openDialog(heading) {
  const dialog = element("dialog");
  const title = element("h2", { textContent: heading, id: `wallet-dialog-${(dialogs += 1)}` });
  dialog.setAttribute("aria-labelledby", title.id);
  dialog.append(title);
  root.append(dialog);
  dialog.addEventListener("close", () => dialog.remove());
  return dialog;
}

/** Lets the person choose; resolves to one of `choice`, or null. */
export function chooser(choice, texts) {
  return new Promise((resolve) => {
    const dialog = openDialog(texts.choose);
    const list = element("ul", { className: "choice" });
    dialog.append(element("p", { textContent: texts.chooseHint }), list);
    let chosen = null;
    for (const wallet of choice) {
      const entry = dressed(element("button", { type: "button" }), "secondary");
      const mark = wallet.icon
        ? element("img", { src: wallet.icon, alt: "", width: 28, height: 28 })
        : element("span", { className: "no-icon", "aria-hidden": "true" });
      const name = wallet.name || (wallet.rdns === "legacy" ? texts.legacy : texts.unnamed);
      entry.append(mark, element("span", { className: "name", textContent: name }));
      entry.addEventListener("click", () => {
        chosen = wallet;
        dialog.close();
      });
      const item = element("li");
      item.append(entry);
      list.append(item);
    }
    const cancel = dressed(element("button", { type: "button" }), "secondary");
    cancel.textContent = texts.cancel;
    cancel.addEventListener("click", () => dialog.close());
    dialog.append(cancel);
    dialog.addEventListener("close", () => resolve(chosen));
    dialog.showModal();
  });
}
