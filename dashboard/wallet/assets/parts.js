// SPDX-License-Identifier: Apache-2.0
// Small pieces of the page: elements, and the dialog in which one of several wallets is chosen.
// Text only ever enters as text.

/** An element with the given properties; `role` and names with a dash become attributes. */
export function element(name, properties = {}) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "role" || key.includes("-")) made.setAttribute(key, value);
    else made[key] = value;
  }
  return made;
}

export function dressed(button, kind) {
  button.classList.add("action", kind);
  return button;
}

let dialogs = 0;
const boxes = new Set();

/** Makes a button's box known as a place for windows. Returns how to end that. */
export function addBox(box) {
  boxes.add(box);
  return () => boxes.delete(box);
}

/** A box that can be seen on the page now, the newest first; null if there is none. A window in a
 *  folded part of the page would open unseen. */
export const currentBox = () =>
  [...boxes].reverse().find((box) => box.isConnected && box.getClientRects().length > 0) ?? null;

/** A modal dialog with a heading. Escape closes it; the focus returns to where it was. */
export function openDialog(box, heading) {
  const dialog = element("dialog");
  const title = element("h2", { textContent: heading, id: `wallet-dialog-${(dialogs += 1)}` });
  dialog.setAttribute("aria-labelledby", title.id);
  dialog.append(title);
  box.append(dialog);
  dialog.addEventListener("close", () => dialog.remove());
  return dialog;
}

/** Lets the person choose; resolves to one of `choice`, or null. */
export function chooser(box, choice, texts) {
  return new Promise((resolve) => {
    const dialog = openDialog(box, texts.choose);
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
    // A page that changes takes the window with it, and that is no choice.
    const timer = setInterval(() => dialog.isConnected || finish(), 250);
    const finish = () => {
      clearInterval(timer);
      resolve(chosen);
    };
    dialog.addEventListener("close", finish);
    dialog.showModal();
  });
}
