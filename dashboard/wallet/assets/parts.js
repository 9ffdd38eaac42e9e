// SPDX-License-Identifier: Apache-2.0
// Small pieces of the page. Text only ever enters as text.

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
