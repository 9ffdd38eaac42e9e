// SPDX-License-Identifier: Apache-2.0
// One button: draws how its request stands and tells the app how it ended. Streamlit calls the
// default export at every change of the button's data; what is under way lives in requests.js.

import { dressed, element } from "./parts.js";
import * as presses from "./presses.js";
import * as records from "./records.js";
import * as requests from "./requests.js";
import * as wallets from "./wallets.js";
import { chooser, dress } from "./windows.js";

// After so long without an answer a person needs help rather than patience.
const HELP_AFTER_MS = 6_000;

const buttons = new WeakMap();

export default function wallet(component) {
  const { parentElement, data } = component;
  if (data.demo) {
    wallets.expect(import("./demo.js").then((demo) => demo.announce(data.demo, data.texts)));
  }
  if (!buttons.has(parentElement)) buttons.set(parentElement, new Button(parentElement));
  const button = buttons.get(parentElement);
  button.update(component);
  requests.resume();
  // Streamlit also calls this for a call that was overtaken: only what left the page is ended.
  return () => setTimeout(() => parentElement.isConnected || button.end(), 0);
}

// Up to the wallet's answer a person can stop waiting.
const isPending = (stage) => stage === "preparing" || stage === "waiting";

const short = (account) => `${account.slice(0, 6)}…${account.slice(-4)}`;

class Button {
  constructor(root) {
    this.root = root;
    this.told = null;
    this.account = "";
    this.action = element("button", { type: "button", className: "action" });
    this.status = element("p", { className: "status", role: "status" });
    this.more = element("div", { className: "more" });
    this.box = element("div", { className: "wallet" });
    this.box.append(this.action, this.status, this.more);
    root.append(this.box);
    this.unwatch = [
      presses.add(this),
      wallets.watch(() => this.draw()),
      requests.watch((key) => key === this.data.key && this.draw()),
    ];
  }

  end() {
    this.unwatch.forEach((stop) => stop());
    clearTimeout(this.timer);
    this.box.remove();
    buttons.delete(this.root);
  }

  update(component) {
    const isNew = !this.data || (this.data.disabled && !component.data.disabled);
    this.data = component.data;
    this.tell = component.setStateValue;
    requests.settle(this.data.key, this.data.content, isNew);
    dress(this.box);
    this.draw();
    presses.drawn(this);
  }

  /** A click; `meant` is what the button said when it was pressed. A press is never lost in
   * silence: either it begins, or the button says why not. */
  press(meant) {
    const { key, label, disabled } = this.data;
    if (requests.isBusy(key)) return;
    if (disabled) requests.note(key, "notNow");
    else if (meant !== label) requests.note(key, "changed");
    else this.begin();
  }

  begin(another = false) {
    if (this.data.disabled || requests.isBusy(this.data.key)) return;
    const pick = (choice) => chooser(choice, this.data.texts);
    requests.begin(this.data, pick, another);
  }

  /** Gives the app the answer that it has not seen. */
  report() {
    const { key, seen, session, request } = this.data;
    const record = records.get(key);
    if (record?.state === "ended") {
      if (record.answer.token === seen) requests.acknowledge(record);
      else if (!record.isSeen) this.say({ ...record.answer, session });
    }
    if (request.kind !== "connect" || requests.isBusy(key)) return;
    const account = wallets.connection().accounts[0] ?? "";
    const { stage, since } = requests.standing(key);
    const isAsked = stage === "connected" && since !== this.connectedAt;
    if (account === this.account && !isAsked) return;
    Object.assign(this, { account, connectedAt: isAsked ? since : this.connectedAt });
    const lost = { ok: false, problem: "disconnected" };
    const answer = account ? { ok: true, problem: null } : lost;
    this.say({ id: request.id, account, ...answer, token: records.token(), session });
  }

  say(answer) {
    const mark = `${answer.token} ${answer.session}`;
    if (this.told === mark) return;
    this.told = mark;
    this.tell("answer", answer);
  }

  draw() {
    if (!this.data) return;
    const { key, label, primary, disabled } = this.data;
    const busy = requests.isBusy(key);
    this.action.textContent = label;
    this.action.className = `action ${primary ? "primary" : "secondary"}`;
    // Not the attribute "disabled": it would take the focus away from somebody at the keyboard.
    this.action.setAttribute("aria-disabled", String(Boolean(disabled || busy)));
    this.action.classList.toggle("busy", busy);
    const [text, problem] = this.words();
    if (this.status.textContent !== text) this.status.textContent = text;
    this.status.classList.toggle("problem", Boolean(problem));
    this.drawMore();
    clearTimeout(this.timer);
    const { stage, since } = requests.standing(key);
    const left = isPending(stage) ? since + HELP_AFTER_MS - Date.now() : 0;
    if (left > 0) this.timer = setTimeout(() => this.draw(), left);
    this.report();
    this.box.dataset.stage = stage;
  }

  /** What the status line says, and whether it is a problem. */
  words() {
    const { key, request, texts } = this.data;
    const { stage, text, values, problem } = requests.standing(key);
    const record = records.get(key);
    if (records.isLost(record) && (stage === "idle" || stage === "note")) {
      return [texts[record.transaction ? "lostSend" : "lost"], true];
    }
    if (text) {
      const filled = { ...values };
      for (const name of ["account", "wanted"]) {
        if (filled[name]) filled[name] = short(filled[name]);
      }
      filled.detail ||= texts.nothingSaid;
      const words = texts[text].replace(/\{(\w+)\}/g, (all, name) => filled[name] ?? all);
      return [words, stage === "failed" || Boolean(problem)];
    }
    const { accounts } = wallets.connection();
    if (request.kind === "connect" && accounts.length) {
      return [texts.connected.replace("{account}", short(accounts[0])), false];
    }
    return ["", false];
  }

  /** What can be done beside the button: help, trying again, another wallet. */
  drawMore() {
    const { key, texts } = this.data;
    const { stage, since, text, problem } = requests.standing(key);
    const parts = [];
    if (isPending(stage) && Date.now() >= since + HELP_AFTER_MS) parts.push("help", "stop");
    if (text === "retrying") parts.push("drop");
    if (stage === "failed" && problem === "unreachable") parts.push("sendAgain", "drop");
    else if (stage === "failed" && problem !== "no-wallet") parts.push("again");
    if (problem === "wrong-account" && wallets.all().length > 1) parts.push("another");
    const drawn = parts.join(" ");
    if (this.drawn === drawn) return;
    const hadFocus = this.more.contains(this.root.activeElement);
    this.drawn = drawn;
    this.more.replaceChildren(...parts.map((part) => this.part(part, texts)));
    if (hadFocus) (this.more.querySelector("button") ?? this.action).focus();
  }

  part(part, texts) {
    if (part === "help") {
      const points = ["helpBar", "helpUnlock", "helpWindow", "helpPhone"];
      const list = element("ul");
      list.append(...points.map((point) => element("li", { textContent: texts[point] })));
      const help = element("div", { className: "help", role: "note" });
      help.append(element("strong", { textContent: texts.help }), list);
      return help;
    }
    const { key } = this.data;
    const acts = {
      stop: () => requests.stop(key),
      again: () => this.begin(),
      another: () => this.begin(true),
      sendAgain: () => requests.resend(key),
      drop: () => requests.drop(key),
    };
    const words = part === "another" ? texts.choose : texts[part];
    const made = dressed(element("button", { type: "button", textContent: words }), "secondary");
    made.addEventListener("click", acts[part]);
    return made;
  }
}
