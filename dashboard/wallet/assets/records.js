// SPDX-License-Identifier: Apache-2.0
// What was asked and not yet taken note of, by the button's key, in this tab's sessionStorage: it
// outlasts reruns, changes of the page and reloads. One record per button.
//
// state: "asking"  the wallet has it; after a reload nobody waits for its answer any more
//        "signed"  signed, not yet delivered
//        "ended"   the answer is there; kept until the app has seen it

const PLACE = "gridcommons.wallet.requests";
const MAX_RECORDS = 20;
const MAX_AGE_MS = 24 * 3_600_000;

/** Differs for each load of the page. */
export const LOAD = token();

let records = read();

export function token() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function read() {
  try {
    const stored = JSON.parse(sessionStorage.getItem(PLACE)) ?? {};
    const young = Object.entries(stored).filter(([, one]) => one.at > Date.now() - MAX_AGE_MS);
    return new Map(young);
  } catch {
    return new Map();
  }
}

function write() {
  while (records.size > MAX_RECORDS) {
    const idle = [...records].find(([, one]) => one.state === "ended") ?? [...records][0];
    records.delete(idle[0]);
  }
  try {
    sessionStorage.setItem(PLACE, JSON.stringify(Object.fromEntries(records)));
  } catch {
    // Storage is full or forbidden: a reload will then forget.
  }
}

export const get = (key) => records.get(key) ?? null;

export const all = () => [...records.values()];

export function put(record) {
  records.delete(record.key);
  records.set(record.key, { ...record, at: record.at ?? Date.now() });
  write();
  return records.get(record.key);
}

export function remove(key) {
  if (records.delete(key)) write();
}

/** Whether the wallet was asked by a page that is gone. */
export const isLost = (record) => record?.state === "asking" && record.load !== LOAD;
