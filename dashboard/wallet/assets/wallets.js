// SPDX-License-Identifier: Apache-2.0
// The wallets of this browser and which of them is connected. One store per page load, shared by
// all buttons. Wallets are found by EIP-6963, or as window.ethereum where none announces itself.
// Whatever a wallet says of itself is untrusted: names are text, icons only data:image.

/** How the demonstration people's wallet calls itself (demo.js). */
export const DEMO = "city.gridcommons.demo";

const REMEMBERED = "gridcommons.wallet.rdns";
const MAX_WALLETS = 20;
const MAX_NAME = 40;
const MAX_ICON = 100_000;
const ICON = /^data:image\/(png|jpeg|gif|webp|svg\+xml)[;,]/;
const LEGACY_PATIENCE_MS = 400;
// Controls, and marks that turn the direction of writing: they make one name look like another.
const TRICKS = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

const found = new Map();
const watchers = new Set();
const listened = new WeakSet();
let current = { wallet: null, accounts: [], chain: null };
let reconnecting = null;

/** The store as it is now: {wallet, accounts, chain}; wallet null while none is connected. */
export const connection = () => current;

/** The wallets found so far, in the order of their announcements. */
export const all = () => [...found.values()];

/** Calls back at every change of wallets or connection. Returns how to stop that. */
export function watch(callback) {
  watchers.add(callback);
  return () => watchers.delete(callback);
}

function changed() {
  for (const callback of [...watchers]) callback();
}

function set(change) {
  current = { ...current, ...change };
  changed();
}

export function plainText(text, longest) {
  return typeof text === "string" ? text.replace(TRICKS, "").trim().slice(0, longest) : "";
}

function add(id, info, provider) {
  if (found.has(id) || found.size >= MAX_WALLETS) return;
  const icon = typeof info.icon === "string" ? info.icon.trim() : "";
  found.set(id, {
    id,
    rdns: plainText(info.rdns, 100),
    name: plainText(info.name, MAX_NAME),
    icon: ICON.test(icon) && icon.length <= MAX_ICON ? icon : null,
    provider,
  });
  changed();
  reconnect();
}

function announced(event) {
  try {
    const { info, provider } = event.detail;
    if (typeof provider.request !== "function" || typeof info.uuid !== "string") return;
    add(info.uuid.slice(0, 100), info, provider);
  } catch {
    // Not an announcement.
  }
}

function addLegacy() {
  const provider = window.ethereum;
  const others = all().some((wallet) => wallet.rdns !== DEMO);
  if (others || typeof provider?.request !== "function") return;
  add("legacy", { rdns: "legacy", name: "" }, provider);
}

/** One EIP-1193 request. Rejects with an object that has `code` and `message`. */
export async function ask(wallet, method, params) {
  const request = params === undefined ? { method } : { method, params };
  return wallet.provider.request(request);
}

function accountsOf(answer) {
  if (!Array.isArray(answer)) return [];
  return answer.filter((one) => /^0x[0-9a-fA-F]{40}$/.test(one));
}

const chainOf = (answer) =>
  /^0x[0-9a-fA-F]{1,14}$/.test(answer) ? `0x${Number(answer).toString(16)}` : null;

function remember(wallet) {
  try {
    if (wallet) localStorage.setItem(REMEMBERED, wallet.rdns);
    else localStorage.removeItem(REMEMBERED);
  } catch {
    // Storage is forbidden: the person chooses again next time.
  }
}

function remembered() {
  try {
    return localStorage.getItem(REMEMBERED);
  } catch {
    return null;
  }
}

function listen(wallet) {
  const { provider } = wallet;
  if (listened.has(provider) || typeof provider.on !== "function") return;
  listened.add(provider);
  const mine = () => current.wallet?.provider === provider;
  provider.on("accountsChanged", (accounts) => {
    if (!mine()) return;
    const allowed = accountsOf(accounts);
    if (allowed.length) return set({ accounts: allowed });
    remember(null);
    set({ wallet: null, accounts: [], chain: null });
  });
  provider.on("chainChanged", (chain) => mine() && set({ chain: chainOf(chain) }));
  provider.on("disconnect", () => mine() && set({ wallet: null, accounts: [], chain: null }));
  provider.on("connect", () => reconnect());
}

async function take(wallet, accounts) {
  const allowed = accountsOf(accounts);
  if (!allowed.length) return false;
  listen(wallet);
  const chain = chainOf(await ask(wallet, "eth_chainId"));
  remember(wallet);
  set({ wallet, accounts: allowed, chain });
  return true;
}

/** Asks the person, in the wallet, to connect. The demonstration people's wallet can be told whose
 * turn it is. */
export async function connect(wallet, account = null) {
  const method = account && wallet.rdns === DEMO ? "demo_become" : "eth_requestAccounts";
  const accounts = await ask(wallet, method, account && method === "demo_become" ? [account] : []);
  if (!(await take(wallet, accounts))) throw { code: 4001, message: "" };
}

/** The chain that the connected wallet is on now. */
export async function refreshChain() {
  const chain = chainOf(await ask(current.wallet, "eth_chainId"));
  if (chain !== current.chain) set({ chain });
  return chain;
}

/** Takes up the wallet used last, without a window, if it still trusts this page. */
export function reconnect() {
  if (current.wallet || reconnecting) return reconnecting;
  const rdns = remembered();
  const same = all().filter((wallet) => rdns && wallet.rdns === rdns);
  // Two that claim the same name: the person must say which.
  if (same.length !== 1) return null;
  reconnecting = ask(same[0], "eth_accounts")
    .then((accounts) => (current.wallet ? false : take(same[0], accounts)))
    .catch(() => false)
    .finally(() => {
      reconnecting = null;
    });
  return reconnecting;
}

/** Resolves when wallets had the time to announce themselves. */
export const settled = new Promise((resolve) => {
  setTimeout(() => {
    addLegacy();
    resolve();
  }, LEGACY_PATIENCE_MS);
});

export const patience = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

let loading = Promise.resolve();

/** A wallet of our own is on its way: nobody is told that there is none before it is there. */
export function expect(wallet) {
  loading = wallet.catch(() => {});
}

/** Resolves when every wallet that there is has been heard of. */
export const arrived = () => Promise.all([settled, loading]);

window.addEventListener("eip6963:announceProvider", announced);
window.dispatchEvent(new Event("eip6963:requestProvider"));
