// SPDX-License-Identifier: Apache-2.0
// One request from the click to its end: connect, right account, right chain, ask, deliver.
// One at a time in this page; what the wallet was asked is in records.js until the app knows how
// it ended. Attempts belong to the page, not to a button: they go on while buttons come and go.

import * as records from "./records.js";
import * as wallets from "./wallets.js";

const RETRY_S = [1, 2, 4, 8, 15, 30, 30, 30];
const SAID_FOR_MS = 8_000;
const MAX_REPLY = 100_000;
// A body that may outlive its page (fetch's keepalive) has at most 64 KiB.
const MAX_KEEPALIVE = 60_000;
const SILENT_MS = 5_000;
const LOOK_EVERY_MS = 2_000;
const LOOK_FOR_MS = 600_000;
// The blocks since the request that are searched for its transaction.
const MAX_BLOCKS = 250;

const shown = new Map();
const watchers = new Set();
const looking = new Set();
const delivering = new Set();
const wakes = new Map();
let active = null;

/** How the button of this key stands: {stage, text, values, problem, since}. */
export const standing = (key) => shown.get(key) ?? { stage: "idle" };

export const isBusy = (key) => active?.key === key || delivering.has(key);

/** Calls back with a key whose standing or record changed. Returns how to stop that. */
export function watch(callback) {
  watchers.add(callback);
  return () => watchers.delete(callback);
}

/** Ends what a button still says of a request that is over: when the button comes anew, and when
 * it has long been about another request. */
export function settle(key, content, isNew) {
  const one = shown.get(key);
  if (!one || !["done", "failed", "note"].includes(one.stage) || records.get(key)) return;
  const isPast = one.content !== content && Date.now() - one.since > SAID_FOR_MS;
  if (isNew || isPast) shown.delete(key);
}

function show(key, stage, text = null, values = {}, problem = null) {
  const content = active?.key === key ? active.content : shown.get(key)?.content;
  shown.set(key, { stage, text, values, problem, content, since: Date.now() });
  notify(key);
}

function notify(key) {
  for (const callback of [...watchers]) callback(key);
}

/** A way to fail that the app is told of; `text` names the words for the person. */
class Problem extends Error {
  constructor(problem, text, values = {}) {
    super(values.detail ?? text);
    Object.assign(this, { problem, text, values });
  }
}

const sameAddress = (a, b) => a?.toLowerCase() === b?.toLowerCase();

const codeOf = (error) => error?.data?.originalError?.code ?? error?.code;

function isRejection(error) {
  return codeOf(error) === 4001 || error?.code === 4001 || error?.code === "ACTION_REJECTED";
}

function isUnknownChain(error) {
  if (codeOf(error) === 4902) return true;
  return /unrecognized chain|unknown chain|not been added|4902/i.test(error?.message ?? "");
}

function asProblem(error) {
  if (error instanceof Problem) return error;
  const code = codeOf(error);
  const detail = wallets.plainText(error?.message, 200);
  if (isRejection(error)) return new Problem("rejected", "rejected", { detail });
  if (code === -32002) return new Problem("busy", "busy", { detail });
  if (code === 4100 || code === 4900 || code === 4901) {
    return new Problem("disconnected", "disconnected", { detail });
  }
  return new Problem("other", "failed", { detail });
}

/**
 * What a click does. `data` is what the app gave the button; `pick` lets the person choose one of
 * several wallets and resolves to null when they do not. Does nothing while the button's request
 * is under way.
 */
export async function begin(data, pick, another = false) {
  const { key, request } = data;
  if (active) {
    if (active.key !== key) show(key, "note", "otherBusy");
    return;
  }
  const old = records.get(key);
  if (delivering.has(key)) return;
  if (old?.state === "signed") return void deliver(old);
  const isAnswered = old?.state === "ended" && old.answer.ok && old.id === request.id;
  if (isAnswered) return void show(key, "done", ...goodWords(old));
  const attempt = { key, content: data.content, stopped: false };
  active = attempt;
  show(key, "preparing", "preparing");
  try {
    if (records.isLost(old) && old.transaction) {
      await wallets.arrived();
      await wallets.reconnect();
      if (await lookOnce(old)) return;
    }
    await run(data, pick, attempt, another);
  } catch (error) {
    if (!attempt.stopped) fail(data, asProblem(error));
  } finally {
    if (active === attempt) active = null;
    notify(key);
  }
}

/** Says why a press begins nothing, unless the button offers what is more urgent. */
export function note(key, text) {
  const record = records.get(key);
  if (!record || !isKept(record)) show(key, "note", text);
}

/** Ends the waiting for a wallet that does not answer. */
export function stop(key) {
  if (active?.key !== key) return;
  active.stopped = true;
  active = null;
  const record = records.get(key);
  // What was signed late is thrown away; what was sent late has happened and is looked for.
  if (record?.transaction) records.put({ ...record, load: "stopped" });
  else if (record?.state === "asking") records.remove(key);
  show(key, "note", "stopped");
}

/** A signature that the service has not seen, and that can still be handed over. */
const isKept = (record) =>
  record.state === "ended" &&
  record.answer.problem === "delivery-failed" &&
  Boolean(record.signature) &&
  !record.isRefused &&
  !record.deliver.once;

/** The app has seen how a request ended: only an undelivered signature is still of use. */
export function acknowledge(record) {
  if (!isKept(record)) records.remove(record.key);
  else if (!record.isSeen) records.put({ ...record, isSeen: true });
}

/** Forgets a signature that could not be delivered. */
export function drop(key) {
  records.remove(key);
  wakes.get(key)?.();
  show(key, "idle");
}

/** Tries again to deliver what is signed. */
export function resend(key) {
  const record = records.get(key);
  if (record?.deliver) deliver(record);
}

async function run(data, pick, attempt, another) {
  const { key, request } = data;
  if (!(await connected(data, pick, attempt, another))) {
    if (!attempt.stopped) show(key, "idle");
    return;
  }
  const { wallet, accounts } = wallets.connection();
  const account = request.account
    ? accounts.find((one) => sameAddress(one, request.account))
    : accounts[0];
  if (!account) {
    const values = { account: accounts[0], wanted: request.account };
    throw new Problem("wrong-account", "wrongAccount", values);
  }
  if (data.chain) await rightChain(wallet, data.chain, key, attempt);
  if (attempt.stopped) return;
  if (request.kind === "connect") return void show(key, "connected");
  const record = { key, id: request.id, kind: request.kind, account, rdns: wallet.rdns };
  await put(record, await question(request, account, wallet), wallet, attempt);
}

async function connected(data, pick, attempt, another) {
  const { key, request } = data;
  // A wallet that keeps silent is asked again, openly: that can be helped and stopped.
  await Promise.race([wallets.reconnect(), wallets.patience(SILENT_MS)]);
  const isConnect = request.kind === "connect";
  const now = wallets.connection().wallet;
  const suits = now && (!request.wallet || now.rdns === request.wallet);
  const become = suits && request.wallet && request.account;
  if (suits && !become && !isConnect && !another) return true;
  await wallets.arrived();
  const choice = wallets.all().filter((one) => !request.wallet || one.rdns === request.wallet);
  if (!choice.length) throw new Problem("no-wallet", "noWallet");
  const wallet = choice.length === 1 ? choice[0] : await pick(choice);
  if (!wallet || attempt.stopped) return false;
  show(key, "waiting", "connecting");
  await wallets.connect(wallet, request.account);
  return !attempt.stopped;
}

async function rightChain(wallet, chain, key, attempt) {
  const isRight = async () => Number(await wallets.refreshChain()) === Number(chain.chainId);
  if ((await isRight()) || attempt.stopped) return;
  show(key, "waiting", "switching");
  const { chainId } = chain;
  const change = () => wallets.ask(wallet, "wallet_switchEthereumChain", [{ chainId }]);
  try {
    await change();
  } catch (error) {
    if (codeOf(error) === -32002) throw error;
    if (isRejection(error) || !isUnknownChain(error) || !chain.rpcUrls) {
      throw new Problem("wrong-chain", "wrongChain", { detail: asProblem(error).values.detail });
    }
    try {
      await wallets.ask(wallet, "wallet_addEthereumChain", [chain]);
      // Some wallets add a chain without going there.
      if (!attempt.stopped && !(await isRight())) await change();
    } catch (refused) {
      if (codeOf(refused) === -32002) throw refused;
      throw new Problem("wrong-chain", "wrongChain", { detail: asProblem(refused).values.detail });
    }
  }
  if (!attempt.stopped && !(await isRight())) throw new Problem("wrong-chain", "wrongChain");
}

/** What to ask the wallet, and what must be remembered of it. */
async function question(request, account, wallet) {
  switch (request.kind) {
    case "typed-data":
      return {
        method: "eth_signTypedData_v4",
        params: [account, request.document],
        keep: { deliver: request.deliver },
      };
    case "message":
      return {
        method: "personal_sign",
        params: [hexOf(request.text), account],
        keep: { deliver: request.deliver },
      };
    case "sign-in": {
      const reply = await post(request.challenge, JSON.stringify({ account }));
      const message = reply.body?.message;
      if (reply.status !== 200 || typeof message !== "string") {
        throw new Problem("delivery-failed", "failed", { detail: reason(reply) });
      }
      // Good for one delivery only: whoever brings it twice is refused.
      const body = fill(request.deliver.body, "$message", message);
      const deliver = { ...request.deliver, body, once: true };
      return { method: "personal_sign", params: [hexOf(message), account], keep: { deliver } };
    }
    case "transaction": {
      // If the page is gone when the wallet sends, this finds what it sent.
      const [count, block] = await Promise.all([
        wallets.ask(wallet, "eth_getTransactionCount", [account, "latest"]),
        wallets.ask(wallet, "eth_blockNumber", []),
      ]);
      const before = { count: Number(count), block: Number(block) };
      return {
        method: "eth_sendTransaction",
        params: [request.transaction],
        keep: { transaction: request.transaction, before },
      };
    }
    default:
      throw new Problem("other", "failed", { detail: "unknown request" });
  }
}

async function put(head, { method, params, keep }, wallet, attempt) {
  if (attempt.stopped) return;
  const older = records.get(head.key);
  const record = records.put({ ...head, ...keep, state: "asking", load: records.LOAD });
  show(head.key, "waiting", "asking");
  let result;
  try {
    result = await wallets.ask(wallet, method, params);
  } catch (error) {
    // "Already pending": what the wallet shows is what an older load of this page asked.
    if (codeOf(error) === -32002 && records.isLost(older)) records.put(older);
    else if (!attempt.stopped || isRejection(error)) records.remove(head.key);
    throw error;
  }
  const stands = records.get(head.key);
  if (stands?.id !== record.id || stands.state !== "asking") return;
  if (record.transaction) {
    if (!/^0x[0-9a-fA-F]{64}$/.test(result)) throw odd(record);
    return void end(record, { transaction: result });
  }
  if (attempt.stopped) return;
  if (!/^0x([0-9a-fA-F]{2}){1,10000}$/.test(result)) throw odd(record);
  const signed = records.put({ ...record, state: "signed", signature: usual(result) });
  // The wallet is free again: delivering holds up nobody else.
  if (signed.deliver) deliver(signed);
  else end(signed, {});
}

function odd(record) {
  records.remove(record.key);
  return new Problem("other", "failed", { detail: "an answer that makes no sense" });
}

/** Some devices give the parity as 0 or 1. */
function usual(signature) {
  if (signature.length !== 132) return signature;
  const v = parseInt(signature.slice(130), 16);
  return v < 27 ? signature.slice(0, 130) + (v + 27).toString(16) : signature;
}

function hexOf(text) {
  const bytes = new TextEncoder().encode(text);
  return `0x${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

/** `body` is JSON text; a string in it that is exactly `name` becomes `value`. */
const fill = (body, name, value) => body.split(JSON.stringify(name)).join(JSON.stringify(value));

function end(record, answer, problem = null) {
  const { signature = null, account } = record;
  const told = {
    id: record.id,
    ok: problem === null,
    account,
    signature,
    transaction: null,
    delivered: null,
    problem,
    detail: "",
    token: records.token(),
    ...answer,
  };
  const ended = records.put({ ...record, state: "ended", answer: told, isSeen: false });
  if (told.ok) show(record.key, "done", ...goodWords(ended));
}

function goodWords(record) {
  if (record.transaction) return ["sent"];
  if (record.kind === "sign-in") return ["signedIn"];
  return [record.answer.delivered ? "delivered" : "signed"];
}

function fail(data, { problem, text, values }) {
  const { key, request } = data;
  const account = wallets.connection().accounts[0] ?? "";
  const record = { key, id: request.id, kind: request.kind, account };
  // While the wallet may still show an older request of ours, its record must stay.
  if (records.get(key)?.state !== "asking") end(record, { detail: values.detail ?? "" }, problem);
  show(key, "failed", text, values, problem);
}

async function post(url, body) {
  const response = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body,
    credentials: "same-origin",
    redirect: "error",
    cache: "no-store",
    keepalive: body.length < MAX_KEEPALIVE,
  });
  const text = await response.text();
  let parsed = null;
  try {
    if (text.length <= MAX_REPLY) parsed = JSON.parse(text);
  } catch {
    // Not JSON: the status says enough.
  }
  const after = Number(response.headers.get("Retry-After"));
  return { status: response.status, body: parsed, after: after > 0 ? Math.min(after, 60) : 0 };
}

function reason(reply) {
  const said = reply.body?.error ?? reply.body?.reason ?? reply.body?.detail;
  const text = wallets.plainText(said?.message ?? said?.problem ?? said, 200);
  return text || `HTTP ${reply.status}`;
}

const isPassing = (status) => status >= 500 || status === 408 || status === 429;

async function deliver(record) {
  const { key, deliver: where } = record;
  if (delivering.has(key)) return;
  delivering.add(key);
  const body = fill(where.body, "$signature", record.signature);
  const delays = where.once ? [] : RETRY_S;
  records.put({ ...record, state: "signed" });
  show(key, "working", "delivering");
  try {
    for (let turn = 0; ; turn += 1) {
      let reply = null;
      try {
        reply = await post(where.url, body);
      } catch {
        // The network, not the service.
      }
      if (reply && !isPassing(reply.status)) return void judge(record, reply);
      if (turn >= delays.length) return void unreachable(record, reply);
      show(key, "working", "retrying");
      await pause(key, Math.max(delays[turn], reply?.after ?? 0) * 1_000);
      if (records.get(key)?.state !== "signed") return;
    }
  } finally {
    delivering.delete(key);
    notify(key);
  }
}

function judge(record, reply) {
  const delivered = { status: reply.status, body: reply.body };
  if (reply.status < 300) return end(record, { delivered });
  const detail = reason(reply);
  end({ ...record, isRefused: true }, { delivered, detail }, "delivery-failed");
  show(record.key, "failed", "deliveryFailed", { detail }, "refused");
}

function unreachable(record, reply) {
  const delivered = reply ? { status: reply.status, body: reply.body } : null;
  const detail = reply ? reason(reply) : "";
  end(record, { delivered, detail }, "delivery-failed");
  show(record.key, "failed", "unreachable", {}, record.deliver.once ? "refused" : "unreachable");
}

/** Waits, but not beyond the moment at which the network is back, or the person gives up. */
function pause(key, ms) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      window.removeEventListener("online", done);
      wakes.delete(key);
      resolve();
    };
    const timer = setTimeout(done, ms);
    window.addEventListener("online", done);
    wakes.set(key, done);
  });
}

/** Takes up what an earlier load of this page left behind. */
export function resume() {
  for (const record of records.all()) {
    if (record.state === "signed" && record.load !== records.LOAD && !delivering.has(record.key)) {
      if (record.deliver?.once) records.remove(record.key);
      else if (record.deliver) deliver({ ...record, load: records.LOAD });
      else end(record, {});
    } else if (isKept(record) && standing(record.key).stage === "idle") {
      show(record.key, "failed", "unreachable", {}, "unreachable");
    } else if (records.isLost(record) && record.transaction && !looking.has(record.key)) {
      look(record.key);
    }
  }
}

/** Watches the chain for a transaction that the wallet may send after our page was reloaded. */
async function look(key) {
  looking.add(key);
  const until = Date.now() + LOOK_FOR_MS;
  try {
    while (Date.now() < until) {
      const record = records.get(key);
      if (!records.isLost(record)) return;
      await wallets.reconnect();
      if (await lookOnce(record)) return;
      await pause(key, LOOK_EVERY_MS);
    }
  } finally {
    looking.delete(key);
  }
}

/** Whether the record's transaction is on the chain; if so, the record ends with its hash. */
async function lookOnce(record) {
  const { wallet } = wallets.connection();
  if (!wallet || wallet.rdns !== record.rdns) return false;
  try {
    const chain = await wallets.refreshChain();
    if (Number(chain) !== Number(record.transaction.chainId)) return false;
    const count = await wallets.ask(wallet, "eth_getTransactionCount", [record.account, "latest"]);
    if (Number(count) <= record.before.count) return false;
    const last = Number(await wallets.ask(wallet, "eth_blockNumber", []));
    const first = Math.max(record.before.block, last - MAX_BLOCKS) + 1;
    for (let number = first; number <= last; number += 1) {
      const at = `0x${number.toString(16)}`;
      const block = await wallets.ask(wallet, "eth_getBlockByNumber", [at, true]);
      const sent = (block?.transactions ?? []).find((one) => isSame(one, record.transaction));
      if (sent && records.isLost(records.get(record.key))) {
        end(record, { transaction: sent.hash });
        return true;
      }
    }
  } catch {
    // The wallet or its node does not answer now.
  }
  return false;
}

function isSame(sent, wanted) {
  return (
    sameAddress(sent.from, wanted.from) &&
    sameAddress(sent.to, wanted.to) &&
    sameAddress(sent.input, wanted.data) &&
    BigInt(sent.value) === BigInt(wanted.value)
  );
}
