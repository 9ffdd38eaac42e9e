// SPDX-License-Identifier: Apache-2.0
// Compiles GridPeer.sol with the solc of node_modules, which carries its own compiler, and writes
// what benchmarks/openzeppelin.py deploys to the file that is named. Nothing is fetched.
"use strict";

const fs = require("fs");
const path = require("path");
const solc = require("solc");

const SOURCE = "GridPeer.sol";
const CONTRACTS = {
  [SOURCE]: ["PeerMembership", "PeerGovernor", "PeerGovernorPlain", "PeerBatch"],
  "@openzeppelin/contracts/governance/TimelockController.sol": ["TimelockController"],
};
const OUTPUTS = ["abi", "metadata", "evm.bytecode.object", "evm.deployedBytecode.object"];

const read = (...parts) => fs.readFileSync(path.join(__dirname, ...parts), "utf8");

function compile() {
  const input = {
    language: "Solidity",
    sources: { [SOURCE]: { content: read(SOURCE) } },
    settings: {
      // The rules of the node that it is measured on; viaIR makes its votes cheaper.
      evmVersion: "osaka",
      viaIR: true,
      optimizer: { enabled: true, runs: 200 },
      outputSelection: { "*": { "*": OUTPUTS } },
    },
  };
  const imported = (name) => ({ contents: read("node_modules", name) });
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: imported }));
  const errors = (output.errors || []).filter((one) => one.severity === "error");
  if (errors.length) throw new Error(errors.map((one) => one.formattedMessage).join("\n"));
  const found = {};
  for (const [file, names] of Object.entries(CONTRACTS)) {
    for (const name of names) {
      const { abi, evm, metadata } = output.contracts[file][name];
      found[name] = {
        abi,
        bytecode: evm.bytecode.object,
        runtime: evm.deployedBytecode.object,
        metadata: JSON.parse(metadata),
      };
    }
  }
  return found;
}

const target = process.argv[2];
if (!target) {
  console.error("usage: node compile.js OUTPUT.json");
  process.exit(2);
}
fs.mkdirSync(path.dirname(target), { recursive: true });
fs.writeFileSync(`${target}.part`, JSON.stringify(compile()));
fs.renameSync(`${target}.part`, target);
