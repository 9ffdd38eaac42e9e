// SPDX-License-Identifier: Apache-2.0
// The wallet of the demonstration people: announces itself like any other (EIP-6963), asks in a
// window of this page, and has the server of a local chain sign. No key ever comes here.

import { dressed, element } from "./parts.js";
import { DEMO } from "./wallets.js";
import { openDialog } from "./windows.js";

const PLACE = "gridcommons.demo.person";
const CONFIRMED = ["personal_sign", "eth_signTypedData_v4", "eth_sendTransaction"];
// Who has just chosen to be somebody need not confirm that again in the next seconds.
const JUST_NOW_MS = 20_000;
const ICON =
  "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'>" +
  "<rect width='32' height='32' rx='7' fill='%23e8b93a'/><circle cx='16' cy='12' r='5'/>" +
  "<path d='M6 27c0-7 5-9 10-9s10 2 10 9z'/></svg>";

let announced = false;

/** Announces the wallet once per page. `url` is its server's path. */
export function announce(url, texts) {
  if (announced) return;
  announced = true;
  const info = { uuid: crypto.randomUUID(), name: texts.demoName, icon: ICON, rdns: DEMO };
  const detail = Object.freeze({ info: Object.freeze(info), provider: new Demo(url, texts) });
  const tell = () => {
    window.dispatchEvent(new CustomEvent("eip6963:announceProvider", { detail }));
  };
  window.addEventListener("eip6963:requestProvider", tell);
  tell();
}

class Demo {
  #url;
  #texts;
  #listeners = new Map();
  #chosenAt = 0;

  constructor(url, texts) {
    this.#url = url;
    this.#texts = texts;
  }

  on(name, callback) {
    if (!this.#listeners.has(name)) this.#listeners.set(name, new Set());
    this.#listeners.get(name).add(callback);
  }

  removeListener(name, callback) {
    this.#listeners.get(name)?.delete(callback);
  }

  async request({ method, params = [] }) {
    switch (method) {
      case "eth_accounts":
        return this.#accounts();
      case "eth_requestAccounts":
        return this.#become(await this.#pickPerson());
      case "demo_become":
        if (await this.#isPerson(params[0])) return this.#become(params[0]);
        return this.#become(await this.#pickPerson());
      case "wallet_switchEthereumChain": {
        const here = await this.#ask("eth_chainId", []);
        if (Number(params[0]?.chainId) === Number(here)) return null;
        throw { code: 4902, message: "There is only the local chain here." };
      }
      case "wallet_addEthereumChain":
        throw { code: 4200, message: "There is only the local chain here." };
    }
    if (CONFIRMED.includes(method)) await this.#confirm(method, params);
    return this.#ask(method, params);
  }

  /** The person chosen last, if this chain's people are still the same. */
  async #accounts() {
    const chosen = stored();
    return (await this.#isPerson(chosen)) ? [chosen] : [];
  }

  async #isPerson(account) {
    if (!account) return false;
    const people = await this.#ask("demo_people", []);
    return people.some(({ address }) => address === account);
  }

  #become(account) {
    const changed = stored() !== account;
    this.#chosenAt = Date.now();
    store(account);
    if (changed) {
      for (const tell of [...(this.#listeners.get("accountsChanged") ?? [])]) tell([account]);
    }
    return [account];
  }

  async #ask(method, params) {
    const response = await fetch(this.#url, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }),
      credentials: "same-origin",
      redirect: "error",
    });
    const reply = await response.json();
    if (!reply.error) return reply.result;
    const { code = -32000, message, problem } = reply.error;
    throw { code, message: message ?? problem };
  }

  async #confirm(method, params) {
    if (method === "personal_sign" && this.#isOwnSignIn(params)) return;
    const asked = await this.#ask("demo_describe", [method, params]);
    const texts = this.#texts;
    const yes = await inWindow(() => {
      const dialog = openDialog(texts.demoTitle.replace("{name}", asked.name));
      const facts = element("dl", { className: "facts" });
      for (const [name, value] of asked.facts) {
        facts.append(
          element("dt", { textContent: name }),
          element("dd", { textContent: value }),
        );
      }
      const everything = element("details", { className: "everything" });
      const all = element("pre", { textContent: asked.everything, tabIndex: 0 });
      everything.append(element("summary", { textContent: texts.demoDetails }), all);
      const send = method === "eth_sendTransaction" ? texts.demoSend : texts.demoConfirm;
      dialog.append(
        element("p", { className: "asked", textContent: asked.title }),
        facts,
        element("p", { className: "note", textContent: texts.demoNote }),
        everything,
        choices(dialog, [send, "primary", "yes"], [texts.demoReject, "secondary", ""]),
      );
      // Nobody shall sign by an Enter that was meant for something else.
      const title = dialog.querySelector("h2");
      Object.assign(title, { tabIndex: -1, autofocus: true });
      return dialog;
    });
    if (yes !== "yes") throw { code: 4001, message: "" };
  }

  /** The text by which the person just chosen signs in to this very page. */
  #isOwnSignIn([hex, account]) {
    const bytes = Uint8Array.from(hex.slice(2).match(/../g) ?? [], (pair) => parseInt(pair, 16));
    const text = new TextDecoder().decode(bytes);
    const isFresh = Date.now() - this.#chosenAt < JUST_NOW_MS && account === stored();
    const isOurs = text.startsWith(`${location.host} wants you to sign in`);
    if (isFresh && isOurs) this.#chosenAt = 0;
    return isFresh && isOurs;
  }

  async #pickPerson() {
    const people = await this.#ask("demo_people", []);
    const texts = this.#texts;
    if (!people.length) throw { code: 4100, message: "" };
    const select = element("select", { id: "wallet-demo-person" });
    for (const { address, name } of people) {
      select.append(element("option", { value: address, textContent: name }));
    }
    select.value = stored() ?? people[0].address;
    const answer = await inWindow(() => {
      const dialog = openDialog(texts.demoWho);
      const label = element("label", { textContent: texts.demoPerson, htmlFor: select.id });
      dialog.append(
        element("p", { className: "note", textContent: texts.demoNote }),
        label,
        select,
        choices(dialog, [texts.demoConnect, "primary", "yes"], [texts.cancel, "secondary", ""]),
      );
      return dialog;
    });
    if (answer !== "yes") throw { code: 4001, message: "" };
    return select.value;
  }
}

function choices(dialog, ...those) {
  const row = element("div", { className: "choices" });
  for (const [text, kind, value] of those) {
    const button = dressed(element("button", { type: "button", textContent: text }), kind);
    button.addEventListener("click", () => dialog.close(value));
    row.append(button);
  }
  return row;
}

/** Shows the dialog that `make` draws. Resolves to its return value when it is closed. */
function inWindow(make) {
  return new Promise((resolve) => {
    const dialog = make();
    dialog.addEventListener("close", () => resolve(dialog.returnValue));
    dialog.showModal();
  });
}

function stored() {
  try {
    return localStorage.getItem(PLACE);
  } catch {
    return null;
  }
}

function store(account) {
  try {
    localStorage.setItem(PLACE, account);
  } catch {
    // Storage is forbidden: the person is chosen anew after a reload.
  }
}
